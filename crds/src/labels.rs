//! Label selectors with bounds, so that the API server can refuse what does not compile.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pods by their labels, as a Deployment's `spec.selector` has it: all of it must hold.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that a pod must have with exactly these values. Example: `{app.kubernetes.io/part-of: billing}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(
        validation = ("self.all(k, !format.qualifiedName().validate(k).hasValue())", "a key of matchLabels is not a label's name: write `name` or `prefix/name`, for example app.kubernetes.io/name"),
        validation = ("self.all(k, !format.labelValue().validate(self[k]).hasValue())", "a value of matchLabels is not a label's value: at most 63 letters, digits, `-`, `_` or `.`, beginning and ending with a letter or digit")
    )]
    pub match_labels: Option<BTreeMap<String, LabelText>>,
    /// Further requirements. Example: `[{key: tier, operator: In, values: [web, api]}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub match_expressions: Option<Vec<LabelSelectorRequirement>>,
}

/// One requirement on one label.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : true", "the operators In and NotIn need values: add at least one to `values`"),
    validation = ("self.operator in ['Exists', 'DoesNotExist'] ? !has(self.values) || size(self.values) == 0 : true", "the operators Exists and DoesNotExist take no values: remove `values`"),
    validation = ("!format.qualifiedName().validate(self.key).hasValue()", "key is not a label's name: write `name` or `prefix/name`, for example app.kubernetes.io/name"),
    validation = ("!has(self.values) || self.values.all(v, !format.labelValue().validate(v).hasValue())", "values holds what is not a label's value: at most 63 letters, digits, `-`, `_` or `.`, beginning and ending with a letter or digit")
)]
pub struct LabelSelectorRequirement {
    /// The label. Example: `tier`.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// What must hold of the label. `NotIn` and `DoesNotExist` also hold for a pod without it.
    pub operator: LabelSelectorOperator,
    /// Values for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub values: Option<Vec<LabelText>>,
}

/// What must hold of a label.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum LabelSelectorOperator {
    /// The label has one of the values.
    In,
    /// The label has none of the values, or is missing.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

/// A label's value.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
#[schemars(inline)]
pub struct LabelText(#[schemars(length(max = 63))] pub String);
