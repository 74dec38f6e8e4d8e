//! What is known of the model of one checkpoint.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::catalogue::{self, AskedName, FamilyFile, KnownScales, ListFormat, NotLoaded};
use super::fused::FUSED;
use super::kind::{LayerKind, split_name, target_name};
use super::layer::Layer;
use super::part::Part;
use super::projections::is_known_projection;
use crate::config::Config;

mod next_tokens;

/// The number of config.json after which layers predict further tokens.
const LAYERS: &str = "num_hidden_layers";

/// What is known of the model of one checkpoint: the files of its family, nearest first, and what holds for all models.
#[derive(Clone, Debug, Default)]
pub struct Model {
    families: Arc<Vec<FamilyFile>>,
    /// The numbers of config.json that the files name, and the number of layers.
    numbers: Arc<BTreeMap<String, u64>>,
    /// In a model of no known family, the modules that hold a token embedding and, beside it, the layers of a language
    /// model; `None` where the family is known, or nothing is known of the checkpoint.
    stems: Option<Arc<BTreeSet<String>>>,
    /// Layers that were decided, by form of the name and rank: a model has few forms and may have 70,000 names.
    decided: Arc<Mutex<HashMap<(String, usize), Layer>>>,
}

impl Model {
    /// Looks the model up by its config; `names` are those of all tensors, with their ranks.
    pub fn of<'a>(config: &Config, names: impl Iterator<Item = (&'a str, usize)>) -> Self {
        let families = catalogue::find(&config.architectures(), config.model_type().as_deref());
        let files = || families.iter().chain([catalogue::common()]);
        let asked = files().flat_map(|file| file.asked.iter().chain(&file.next_tokens.asked));
        let counted = asked.filter_map(|asked| asked.counted_on_by.as_deref());
        let promised = files().flat_map(|file| &file.next_tokens.promised_by).map(String::as_str);
        let keys = counted.chain(promised).chain([LAYERS]);
        let numbers = keys.filter_map(|key| Some((key.to_owned(), config.text_number(key)?))).collect();
        let mut model = Self { families: Arc::new(families), numbers: Arc::new(numbers), ..Self::default() };
        if model.families.is_empty() {
            let embeddings = names.filter(|(name, rank)| model.kind(name, *rank) == LayerKind::Embedding);
            let stems = embeddings.map(|(name, _)| split_name(split_name(name).0).0.to_owned());
            model.stems = Some(Arc::new(stems.collect()));
        }
        model
    }

    /// The family's name for people, or `None` for a family whose layers are not known.
    pub fn family(&self) -> Option<&str> {
        self.families.first().map(|file| file.name.as_str())
    }

    /// The files that say what is known, nearest first.
    pub fn families(&self) -> &[FamilyFile] {
        &self.families
    }

    /// The layer that the tensor of this name and rank belongs to.
    pub fn layer(&self, name: &str, rank: usize) -> Layer {
        let key = (form(name), rank);
        let mut decided = self.decided.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *decided.entry(key).or_insert_with(|| self.decide(name, rank))
    }

    fn decide(&self, name: &str, rank: usize) -> Layer {
        let kind = self.kind(name, rank);
        let module = target_name(name);
        let part = self.part(module).unwrap_or_else(|| match &self.stems {
            Some(stems) if kind == LayerKind::Linear => part_of_unknown(module, stems),
            _ => Part::Decoder,
        });
        Layer { kind, part }
    }

    fn kind(&self, name: &str, rank: usize) -> LayerKind {
        let module = target_name(name);
        let known = self.files().find_map(|file| {
            let mut kinds = file.layers.iter();
            kinds.find(|(_, patterns)| patterns.iter().any(|pattern| pattern.matches(module))).map(|(&kind, _)| kind)
        });
        LayerKind::of(name, rank, known.map(LayerKind::from))
    }

    /// The part of the model that the catalogue gives a module of this name, `None` where it says nothing of it.
    pub fn part(&self, module: &str) -> Option<Part> {
        self.files().find_map(|file| {
            let mut parts = file.parts.iter();
            parts.find(|(_, patterns)| patterns.iter().any(|pattern| pattern.matches(module))).map(|(&part, _)| part)
        })
    }

    /// Returns the word of the module's name that says to which part it belongs: `visual` in
    /// `model.visual.blocks.0.attn.qkv`. `None` where no single word does.
    pub fn part_word<'m>(&self, module: &'m str) -> Option<&'m str> {
        let mut patterns = self.files().flat_map(|file| file.parts.values().flatten());
        patterns.find_map(|pattern| {
            let word = pattern.text().strip_prefix("**.")?.strip_suffix(".**")?;
            module.split('.').find(|part| *part == word)
        })
    }

    /// Reports whether the module may be missing where its siblings in a fused layer are there.
    pub fn may_lack(&self, module: &str) -> bool {
        self.files().any(|file| file.may_lack.iter().any(|pattern| pattern.matches(module)))
    }

    /// Reports whether the module's rows may end inside a block, as those of the official files do.
    pub fn may_cut_rows(&self, module: &str) -> bool {
        self.files().any(|file| file.cut_rows.iter().any(|pattern| pattern.matches(module)))
    }

    /// Reports whether vLLM asks the list for routers: in a few known families, and perhaps in one that is not known.
    pub fn asks_for_routers(&self) -> bool {
        self.families.is_empty() || self.families.iter().any(|file| file.asks_for_routers)
    }

    /// Reports whether vLLM builds the module quantized whatever a list says.
    pub fn is_always_quantized(&self, module: &str) -> bool {
        self.files().any(|file| file.always_quantized.iter().any(|pattern| pattern.matches(module)))
    }

    /// Returns the name under which vLLM builds the module that the file calls `name`; a name in vLLM's own spelling
    /// stays.
    pub fn served_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        for prefix in self.files().flat_map(|file| &file.served) {
            // A prefix that ends in no dot is a whole name.
            let is_whole = !prefix.on_disk.ends_with('.');
            if is_whole && name == prefix.on_disk {
                return Cow::Owned(prefix.served.clone());
            }
            if let Some(rest) = name.strip_prefix(&prefix.on_disk).filter(|_| !is_whole) {
                return Cow::Owned(format!("{}{rest}", prefix.served));
            }
        }
        Cow::Borrowed(name)
    }

    /// Returns the name on disk's side under which vLLM asks the list for a module, where it asks for another.
    ///
    /// `format` is that of the list; vLLM's readers of the two differ.
    pub fn asked_name(&self, module: &str, format: ListFormat) -> Option<String> {
        self.rewritten(self.files().flat_map(|file| &file.asked), module, format)
    }

    /// Returns what the first of these that takes the module makes of its name.
    fn rewritten<'a>(
        &self,
        asked: impl Iterator<Item = &'a AskedName>,
        module: &str,
        format: ListFormat,
    ) -> Option<String> {
        let of_format = asked.filter(|asked| asked.format.is_none_or(|only| only == format));
        of_format.flat_map(|asked| asked.on_disk.iter().map(move |on_disk| (on_disk, asked))).find_map(
            |(on_disk, asked)| on_disk.rewrite(module, &asked.asked, self.number(asked.counted_on_by.as_deref())),
        )
    }

    fn number(&self, key: Option<&str>) -> u64 {
        key.and_then(|key| self.numbers.get(key)).copied().unwrap_or(0)
    }

    /// Returns the names that vLLM asks the list for with those of `module`, although no tensor has them: parts of its
    /// fused layer that this block lacks. vLLM wants the same answer for all parts.
    pub fn lacking_parts(&self, module: &str, format: ListFormat, is_there: impl Fn(&str) -> bool) -> Vec<String> {
        // Of experts it asks for the first alone.
        if module.contains(".experts.") && !module.contains(".experts.0.") {
            return Vec::new();
        }
        let (parent, last) = split_name(module);
        let parts = FUSED.iter().filter(|set| set.contains(&last)).flat_map(|set| set.iter());
        let siblings = parts.map(|part| format!("{parent}.{part}"));
        let lacking = siblings.filter(|name| !is_there(name) && self.may_lack(name));
        lacking.map(|name| self.asked_name(&name, format).unwrap_or(name)).collect()
    }

    /// The patterns that reach other spellings of unquantized layers in lists of `format: compressed-tensors`.
    pub fn listed_patterns(&self) -> impl Iterator<Item = &str> {
        self.files().flat_map(|file| &file.listed_patterns).map(String::as_str)
    }

    /// The servers that cannot load weights with these scales in this format.
    pub fn not_loaded(&self, format: ListFormat, scales: KnownScales) -> impl Iterator<Item = &NotLoaded> {
        let all = self.files().flat_map(|file| &file.not_loaded);
        all.filter(move |not| not.format == format && not.scales.is_none_or(|only| only == scales))
    }

    /// The reason why nobody has seen vLLM load the family, `None` where somebody has, or where the family is not known.
    pub fn unproven(&self) -> Option<&str> {
        self.families.first()?.unproven.as_deref()
    }

    /// The files that speak of this model, nearest first.
    fn files(&self) -> impl Iterator<Item = &FamilyFile> {
        self.families.iter().chain([catalogue::common()])
    }
}

/// Returns the part of a linear layer in a model of which only the names are known: of the language model where it lies
/// in numbered layers beside a token embedding and its name is one that every server knows.
fn part_of_unknown(module: &str, stems: &BTreeSet<String>) -> Part {
    let is_in = |stem: &String| {
        let below = if stem.is_empty() {
            Some(module)
        } else {
            module.strip_prefix(stem.as_str()).and_then(|below| below.strip_prefix('.'))
        };
        below.is_some_and(|below| below.split('.').any(|part| part.parse::<u32>().is_ok()))
    };
    if !stems.iter().any(is_in) {
        return Part::Outside;
    }
    if is_known_projection(split_name(module).1) { Part::Decoder } else { Part::Unrecognized }
}

/// Returns the name with `*` for each number.
fn form(name: &str) -> String {
    let parts = name.split('.').map(|part| if part.bytes().all(|byte| byte.is_ascii_digit()) { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}
