{{/*
A manifest of the kustomization, word for word, in this release's namespace. `files/` is a copy of it that `make chart` makes, because a
chart can read nothing outside of its folder: what is installed is written down once.
*/}}
{{- define "katonic-logging.source" -}}
{{- $namespace := .root.Release.Namespace -}}
{{- .root.Files.Get (printf "files/%s" .file)
  | replace "namespace: katonic-logging\n" (printf "namespace: %q\n" $namespace)
  | replace "system:serviceaccount:katonic-logging:" (printf "system:serviceaccount:%s:" $namespace)
  | replace "katonic-logging-webhook.katonic-logging.svc" (printf "katonic-logging-webhook.%s.svc" $namespace)
-}}
{{- end -}}

{{/* The same for a manifest that names no namespace, in the one that is named. */}}
{{- define "katonic-logging.sourceIn" -}}
{{- include "katonic-logging.source" . | replace "\nmetadata:\n" (printf "\nmetadata:\n  namespace: %q\n" .namespace) -}}
{{- end -}}

{{/* The full name of one of `images`. */}}
{{- define "katonic-logging.image" -}}
{{- $image := index .root.Values.images .name -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* A Deployment as its manifest has it, with what the values say of its pods. */}}
{{- define "katonic-logging.deployment" -}}
{{- $values := .values -}}
{{- $deployment := .deployment -}}
{{- $_ := set $deployment.spec "replicas" $values.replicas -}}
{{- $template := $deployment.spec.template -}}
{{- $_ := set $template.metadata "labels" (merge $template.metadata.labels $values.podLabels) -}}
{{- with $values.podAnnotations }}{{ $_ := set $template.metadata "annotations" . }}{{ end -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
{{- with index $values $field }}{{ $_ := set $template.spec $field . }}{{ end -}}
{{- end -}}
{{- with .root.Values.images.pullSecrets }}{{ $_ := set $template.spec "imagePullSecrets" . }}{{ end -}}
{{- $container := first $template.spec.containers -}}
{{- $_ := set $container "image" (include "katonic-logging.image" (dict "root" .root "name" "operator")) -}}
{{- $_ := set $container "imagePullPolicy" .root.Values.images.pullPolicy -}}
{{- $_ := set $container "resources" $values.resources -}}
{{- toYaml $deployment -}}
{{- end -}}
