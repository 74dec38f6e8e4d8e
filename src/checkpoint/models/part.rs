//! The part of a model that a layer belongs to, as far as it decides whether servers build the layer quantized.

use std::fmt;

/// The part of a model that a layer belongs to.
///
/// Servers build the linear layers of the decoder quantized. Those of every other part stay unquantized, each for the
/// reason that [`Part::why`] gives.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Deserialize,
    serde::Serialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The layers of the language model.
    #[default]
    Decoder,
    /// A vision tower.
    Vision,
    /// An audio tower, or what makes sound of tokens.
    Audio,
    /// The layers between a tower and the language model.
    Projector,
    /// Layers that predict further tokens (MTP).
    NextTokens,
    /// The layers of a sparse indexer that servers build in BF16.
    Indexer,
    /// Projections with a few rows for each head.
    FewRows,
    /// The head of a classifier or reranker.
    ClassHead,
    /// Layers whose weights are stored with a row for each input (Conv1D), while scales are for rows of outputs.
    Transposed,
    /// Layers that a server builds without quantization, whatever its list says.
    Unquantized,
    /// In a model of no known family: not in the stack of layers beside a token embedding.
    Outside,
    /// In a model of no known family: a projection of a name that says nothing.
    Unrecognized,
}

impl Part {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decoder => "language model",
            Self::Vision => "vision tower",
            Self::Audio => "audio tower",
            Self::Projector => "projector",
            Self::NextTokens => "layers that predict further tokens",
            Self::Indexer => "sparse indexer",
            Self::FewRows => "projections of linear attention with a few rows for each head",
            Self::ClassHead => "class head",
            Self::Transposed => "layers that are stored transposed",
            Self::Unquantized => "layers that servers build without quantization",
            Self::Outside => "parts outside of the language model's layers",
            Self::Unrecognized => "layers whose names are not known",
        }
    }

    /// The place of some layers of this part, for people: `of the vision tower`.
    pub fn place(self) -> String {
        let name = self.name();
        let word = if name.starts_with("layers") { "among" } else { "of" };
        format!("{word} the {name}")
    }

    /// The reason why linear layers of this part stay unquantized.
    pub fn why(self) -> &'static str {
        match self {
            Self::Decoder => "servers build it quantized",
            // Its MLP of the 8B model (4304 columns) fits no block of 128.
            Self::Vision => "SGLang builds the tower in BF16 and would load FP8 bytes without their scales",
            Self::Audio => "servers build most audio towers without quantization",
            Self::Projector => "servers build most projectors without quantization",
            Self::NextTokens => "servers build some of them in BF16, and none reads their scales there",
            Self::Indexer => "vLLM merges them into a layer in BF16, which has no scales",
            Self::FewRows => "official models keep them, and they fill no block",
            Self::ClassHead => "servers build the heads of classifiers without quantization",
            Self::Transposed => "vLLM turns their weights round on loading, and not the scales",
            Self::Unquantized => "no list makes a server build them quantized",
            Self::Outside | Self::Unrecognized => "whether a server builds them quantized is not known",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
