-- The health of a LoggingPolicy or an AuditPolicy for Argo CD, by the same conditions that kstatus goes by. Argo CD gives `obj`.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready = conditions.Ready

-- What is there is about another generation, or nobody has looked yet.
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not seen this version of the policy yet"}
end

local message = ready.reason .. ": " .. ready.message
if ready.status == "True" then
  if ready.reason == "Suspended" then
    return {status = "Suspended", message = message}
  end
  return {status = "Healthy", message = message}
end

-- Only a person can mend it; otherwise waiting may help.
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  return {status = "Degraded", message = message}
end
return {status = "Progressing", message = message}
