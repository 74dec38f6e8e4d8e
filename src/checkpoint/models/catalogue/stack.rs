//! Experts that lie stacked in one tensor, as the file of a family describes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault::FamilyFault;
use super::name_pattern::{NamePattern, wildcards};
use crate::text::shown;

/// The part of a name that stands for the number of an expert.
const EXPERT: &str = "{expert}";

/// The part of a name that stands for a projection.
const PROJECTION: &str = "{projection}";

/// A tensor of three dimensions that holds the matrices of every expert of a layer, the first dimension being the
/// expert's number.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownStack {
    /// The tensor, without a `.weight` at the end of its name: `**.experts.gate_up_proj`.
    pub on_disk: NamePattern,
    /// The projections that it holds of each expert, in the order in which they lie there: `[gate_proj, up_proj]`. They
    /// become the last part of the names of `split_into`, so that they are those which servers load.
    #[schemars(length(min = 1))]
    pub holds: Vec<String>,
    /// True where the rows of the projections take turns: the first of gate, the first of up, the second of gate and so
    /// on. Else each lies in one piece, the first one in front.
    #[serde(default)]
    pub interleaved: bool,
    /// The way in which each expert's matrix is stored.
    pub stored: StackLayout,
    /// The name of one expert's matrix, without `.weight`: `**.experts.{expert}.{projection}`. `*` and `**` stand for what
    /// those of `on_disk` took, `{expert}` for the number, counted from 0.
    pub split_into: String,
    /// The tensor of two dimensions that holds the biases of the same experts, in the order of the stack's outputs:
    /// `**.experts.gate_up_proj_bias`. Each becomes the bias of its matrix. A stack with a bias beside it that is not
    /// named here is not taken apart.
    pub bias: Option<NamePattern>,
}

/// The way in which the matrices of a stack are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StackLayout {
    /// `[experts, outputs, inputs]`: as linear layers have them.
    Rows,
    /// `[experts, inputs, outputs]`: transposed, to be multiplied from the right.
    Columns,
    /// Either of the two; the shapes of the stacks of a layer tell, of which one has to hold `down_proj` or `w2` alone and
    /// another two projections.
    ByShape,
}

/// The names of what a stack is split into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackNames {
    /// The module of all experts of the layer: `model.layers.0.mlp.experts`.
    pub experts: String,
    /// The rest of a matrix's name behind the expert's number.
    rest: String,
}

impl KnownStack {
    /// Returns the names of what the stack of this name, without `.weight`, is split into; `None` for another tensor.
    pub fn names(&self, stack: &str) -> Option<StackNames> {
        self.names_of(&self.on_disk, stack)
    }

    /// Returns the same for the tensor of biases of this name.
    pub fn names_by_bias(&self, bias: &str) -> Option<StackNames> {
        self.names_of(self.bias.as_ref()?, bias)
    }

    fn names_of(&self, pattern: &NamePattern, name: &str) -> Option<StackNames> {
        let (experts, rest) = self.parts()?;
        Some(StackNames { experts: pattern.rewrite(name, experts, 0)?, rest: rest.to_owned() })
    }

    /// Splits `split_into` around the number of the expert.
    fn parts(&self) -> Option<(&str, &str)> {
        let (experts, rest) = self.split_into.split_once(EXPERT)?;
        Some((experts.strip_suffix('.')?, rest.strip_prefix('.')?))
    }

    /// Returns the reason why no stack can be split by this, which stands at `pointer`, if there is one.
    pub(super) fn fault(&self, pointer: &str) -> Option<FamilyFault> {
        let is_name = |projection: &String| !projection.is_empty() && !projection.contains(['.', '{', '}', '*', ' ']);
        let split = format!("{pointer}/split_into");
        if self.parts().is_none_or(|(_, rest)| rest.split('.').filter(|part| *part == PROJECTION).count() != 1) {
            let reason = format!("`split_into` needs the parts `{EXPERT}` and, behind it, `{PROJECTION}`");
            return Some(FamilyFault::new(split, reason));
        }
        if [Some(&self.on_disk), self.bias.as_ref()]
            .into_iter()
            .flatten()
            .any(|pattern| wildcards(pattern.text()) < wildcards(&self.split_into))
        {
            return Some(FamilyFault::new(split, "`split_into` has more wildcards than the name on disk"));
        }
        let twice = |at: &usize| self.holds[..*at].contains(&self.holds[*at]);
        if self.holds.is_empty() || !self.holds.iter().all(is_name) {
            let reason = "`holds` needs the name of at least one projection, such as `down_proj`";
            return Some(FamilyFault::new(format!("{pointer}/holds"), reason));
        }
        let at = (0..self.holds.len()).find(twice)?;
        let reason = format!("{} stands here twice", shown(&self.holds[at]));
        Some(FamilyFault::new(format!("{pointer}/holds/{at}"), reason))
    }
}

impl StackNames {
    /// Returns the name of an expert's matrix, without `.weight`.
    pub fn matrix(&self, expert: usize, projection: &str) -> String {
        format!("{}.{expert}.{}", self.experts, self.rest.replace(PROJECTION, projection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(on_disk: &str, split_into: &str) -> KnownStack {
        KnownStack {
            on_disk: on_disk.to_owned().into(),
            holds: vec!["gate_proj".to_owned(), "up_proj".to_owned()],
            interleaved: false,
            stored: StackLayout::Rows,
            split_into: split_into.to_owned(),
            bias: None,
        }
    }

    #[test]
    fn a_stack_names_its_matrices() {
        let granite = stack("**.block_sparse_moe.input_linear", "**.block_sparse_moe.experts.{expert}.{projection}");
        let names = granite.names("model.layers.7.block_sparse_moe.input_linear").unwrap();
        assert_eq!(names.experts, "model.layers.7.block_sparse_moe.experts");
        assert_eq!(names.matrix(31, "up_proj"), "model.layers.7.block_sparse_moe.experts.31.up_proj");
        assert_eq!(granite.names("model.layers.7.block_sparse_moe.output_linear"), None);
        assert_eq!(granite.names_by_bias("model.layers.7.block_sparse_moe.input_linear"), None);
        assert_eq!(granite.fault("/stacks/0"), None);
        let below = stack("**.experts.w13", "**.experts.{expert}.mlp.{projection}.linear");
        assert_eq!(below.names("a.experts.w13").unwrap().matrix(0, "w1"), "a.experts.0.mlp.w1.linear");
    }

    #[test]
    fn what_cannot_name_matrices_is_a_fault() {
        let fault = |split_into: &str| stack("**.experts.w13", split_into).fault("/stacks/0").unwrap();
        for split_into in
            ["**.experts.w1", "**.experts.{expert}.w1", "**.experts.{projection}", "{expert}.{projection}"]
        {
            assert!(
                fault(split_into).reason.ends_with("needs the parts `{expert}` and, behind it, `{projection}`"),
                "{split_into}"
            );
        }
        assert!(fault("**.*.{expert}.{projection}").reason.contains("more wildcards"));
        let none = KnownStack { holds: Vec::new(), ..stack("**.w13", "**.{expert}.{projection}") };
        assert_eq!(none.fault("/stacks/0").unwrap().pointer, "/stacks/0/holds");
        let twice = KnownStack { holds: vec!["w1".to_owned(); 2], ..stack("**.w13", "**.{expert}.{projection}") };
        assert_eq!(twice.fault("/stacks/0").unwrap().pointer, "/stacks/0/holds/1");
    }
}
