//! What is known of the model of one checkpoint.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::catalogue::{
    self, AskedName, ConfigKey, FamilyFile, FirstVersions, KnownFused, KnownKind, KnownScales, KnownStack, ListFormat,
    NotLoaded, NotLoadedLevel, StackNames, StoredFused,
};
use super::heads::AttentionHeads;
use super::kind::{LayerKind, split_name, target_name};
use super::layer::Layer;
use super::part::Part;
use super::projections::is_known_projection;
use crate::config::Config;

mod next_tokens;

/// Dimensions of a stack of experts: expert, rows, columns.
const STACK_RANK: usize = 3;

/// The number of config.json after which layers predict further tokens.
const LAYERS: &str = "num_hidden_layers";

/// What is known of the model of one checkpoint: the files of its family, nearest first, and what holds for all models.
#[derive(Clone, Debug, Default)]
pub struct Model {
    families: Arc<Vec<FamilyFile>>,
    /// The classes that config.json names.
    classes: Arc<Vec<String>>,
    /// The numbers of config.json that the files name, and the number of layers.
    numbers: Arc<BTreeMap<String, u64>>,
    /// The numbers of heads of the language model's attention.
    heads: Option<AttentionHeads>,
    /// In a model of no known family, the modules that hold a token embedding and, beside it, the layers of a language
    /// model; `None` where the family is known, or nothing is known of the checkpoint.
    stems: Option<Arc<BTreeSet<String>>>,
    /// Layers that were decided, by form of the name and rank: a model has few forms and may have 70,000 names.
    decided: Arc<Mutex<HashMap<(String, usize), Layer>>>,
}

impl Model {
    /// Looks the model up by its config; `names` are those of all tensors, with their ranks.
    pub fn of<'a>(config: &Config, names: impl Iterator<Item = (&'a str, usize)>) -> Self {
        let classes = config.architectures();
        let families = catalogue::find(&classes, config.model_type().as_deref());
        let files = || families.iter().chain([catalogue::common()]);
        let asked = files().flat_map(|file| file.asked.iter().chain(&file.next_tokens.asked));
        let counted = asked.filter_map(|asked| asked.counted_on_by.as_deref());
        let promised = files().flat_map(|file| &file.next_tokens.promised_by).map(String::as_str);
        let keys = counted.chain(promised).chain([LAYERS]);
        let numbers = keys.filter_map(|key| Some((key.to_owned(), config.text_number(key)?))).collect();
        let (families, classes, numbers) = (Arc::new(families), Arc::new(classes), Arc::new(numbers));
        let heads = AttentionHeads::of(config);
        let mut model = Self { families, classes, numbers, heads, ..Self::default() };
        if model.families.is_empty() {
            let embeddings = names.filter(|(name, rank)| model.kind(name, *rank) == LayerKind::Embedding);
            let stems = embeddings.map(|(name, _)| split_name(split_name(name).0).0.to_owned());
            model.stems = Some(Arc::new(stems.collect()));
        }
        model
    }

    /// The model of a family that these files describe, nearest first.
    #[cfg(test)]
    pub(crate) fn of_families(families: Vec<FamilyFile>) -> Self {
        Self { families: Arc::new(families), ..Self::default() }
    }

    /// The family's name for people, or `None` for a family whose layers are not known.
    pub fn family(&self) -> Option<&str> {
        self.families.first().map(|file| file.name.as_str())
    }

    /// The files that say what is known, nearest first.
    pub fn families(&self) -> &[FamilyFile] {
        &self.families
    }

    /// The first versions of servers that know the family, by the nearest file that says it.
    pub fn first_versions(&self) -> Option<&FirstVersions> {
        self.families.iter().find_map(|file| file.since.as_ref())
    }

    /// The numbers of heads of the language model's attention, as far as config.json says.
    pub fn heads(&self) -> Option<AttentionHeads> {
        self.heads
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
        // The heads of towers are others than config.json's.
        let is_counted = |what: &StoredFused| *what == StoredFused::Halves || part == Part::Decoder;
        Layer { kind, part, stored_fused: self.stored_fused(module).filter(is_counted) }
    }

    fn kind(&self, name: &str, rank: usize) -> LayerKind {
        let module = target_name(name);
        let known = self.files().find_map(|file| {
            if rank == STACK_RANK && file.stacks.iter().any(|stack| stack.on_disk.matches(module)) {
                return Some(KnownKind::Experts);
            }
            // Names beside a stack's are often those of its matrices, which are linear layers.
            let mut kinds = file.layers.iter().filter(|(kind, _)| **kind != KnownKind::Experts || rank == STACK_RANK);
            kinds.find(|(_, patterns)| patterns.iter().any(|pattern| pattern.matches(module))).map(|(&kind, _)| kind)
        });
        LayerKind::of(name, rank, known.map(LayerKind::from))
    }

    /// Returns what is known of the stack of experts that the tensor of this name is, and the names of its matrices.
    pub fn stack(&self, name: &str) -> Option<(&KnownStack, StackNames)> {
        let module = target_name(name);
        self.stacks().find_map(|stack| Some((stack, stack.names(module)?)))
    }

    /// Returns the stack that a tensor of biases belongs to, and the names of its matrices.
    pub fn stack_of_biases(&self, name: &str) -> Option<(&KnownStack, StackNames)> {
        self.stacks().find_map(|stack| Some((stack, stack.names_by_bias(name)?)))
    }

    /// The fused layers of the files that speak of this model, nearest first.
    pub(super) fn known_fused(&self) -> impl Iterator<Item = &KnownFused> {
        self.files().flat_map(|file| &file.fused)
    }

    fn stacks(&self) -> impl Iterator<Item = &KnownStack> {
        self.files().flat_map(|file| &file.stacks)
    }

    /// Returns the module by which servers know all experts of a stack: `model.layers.0.mlp.experts`.
    pub fn experts_of_stack<'n>(&self, name: &'n str) -> Cow<'n, str> {
        match self.stack(name) {
            Some((_, names)) if name.starts_with(&names.experts) => Cow::Borrowed(&name[..names.experts.len()]),
            Some((_, names)) => Cow::Owned(names.experts),
            None => Cow::Borrowed(split_name(target_name(name)).0),
        }
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
        let (parent, _) = split_name(module);
        let parts = self.fused(module).into_iter().flat_map(|fused| &fused.parts);
        let siblings = parts.map(|part| format!("{parent}.{part}"));
        let lacking = siblings.filter(|name| !is_there(name) && self.may_lack(name));
        lacking.map(|name| self.asked_name(&name, format).unwrap_or(name)).collect()
    }

    /// The patterns that reach other spellings of unquantized layers in lists of `format: compressed-tensors`.
    pub fn listed_patterns(&self) -> impl Iterator<Item = &str> {
        self.files().flat_map(|file| &file.listed_patterns).map(String::as_str)
    }

    /// The servers that cannot load weights with these scales in this format, of all layers or of some.
    pub fn not_loaded(&self, format: ListFormat, scales: KnownScales) -> impl Iterator<Item = &NotLoaded> {
        self.all_not_loaded().filter(move |not| {
            not.format.is_none_or(|only| only == format) && not.scales.is_none_or(|only| only == scales)
        })
    }

    /// All that servers cannot load of models of this class.
    fn all_not_loaded(&self) -> impl Iterator<Item = &NotLoaded> {
        self.files().flat_map(|file| &file.not_loaded).filter(|not| not.is_of(&self.classes))
    }

    /// Returns the server that loads a quantized layer of this name in no format, whatever its scales are, where no other
    /// server loads it either.
    pub fn never_loaded(&self, module: &str) -> Option<&NotLoaded> {
        self.in_no_form().find(|not| not.level == NotLoadedLevel::Error && not.is_about(module))
    }

    /// The servers that load no layer of this name, in whatever format and with whatever scales.
    pub fn loads_no_single<'m>(&'m self, module: &'m str) -> impl Iterator<Item = &'m NotLoaded> {
        self.in_no_form().filter(move |not| not.is_about(module))
    }

    /// What servers load in no format, whatever the scales are.
    fn in_no_form(&self) -> impl Iterator<Item = &NotLoaded> {
        self.all_not_loaded().filter(|not| not.format.is_none() && not.scales.is_none() && !not.layers.is_empty())
    }

    /// The keys of config.json that an output needs in which this module is quantized to FP8.
    pub fn config_keys(&self, module: &str) -> impl Iterator<Item = &ConfigKey> {
        let all = self.files().flat_map(|file| &file.config_keys);
        all.filter(move |key| key.layers.iter().any(|pattern| pattern.matches(module)))
    }

    /// The server that cannot load weights with these scales in either format.
    pub fn refuses_scales(&self, scales: KnownScales) -> Option<&NotLoaded> {
        let refuses = |format| {
            self.not_loaded(format, scales).filter(|not| not.level == NotLoadedLevel::Error && not.layers.is_empty())
        };
        let is_general =
            |not: &&NotLoaded| refuses(ListFormat::CompressedTensors).any(|other| other.server == not.server);
        refuses(ListFormat::Fp8).find(is_general)
    }

    /// The reason why nobody has seen vLLM load the family, `None` where somebody has, or where the family is not known.
    pub fn unproven(&self) -> Option<&str> {
        self.families.first()?.unproven.as_deref()
    }

    /// The servers that load no model of the family, whatever is quantized.
    pub fn unserved(&self) -> &[String] {
        self.families.first().map_or(&[], |file| &file.unserved)
    }

    /// Reports whether vLLM gives every GPU all of the module, as the files say.
    pub fn is_replicated(&self, module: &str) -> bool {
        self.files().any(|file| file.replicated.iter().any(|pattern| pattern.matches(module)))
    }

    /// The value of config.json that vLLM takes for the size of the cache where the file has none.
    pub fn cache_default(&self, key: &str) -> Option<&Value> {
        self.files().find_map(|file| file.cache.defaults.get(key))
    }

    /// Reports whether vLLM keeps keys and values of attention that has latents.
    pub fn cache_keeps_keys(&self) -> bool {
        self.files().any(|file| file.cache.keeps_keys)
    }

    /// Reports whether the size of the family's cache was compared with vLLM's own, unless the family is not known.
    pub fn is_cache_compared(&self) -> bool {
        self.families.first().is_none_or(|file| !file.cache.not_compared && file.unproven.is_none())
    }

    /// The kind of all layers where config.json lists none, in the words of its `layer_types`.
    pub fn cache_of_every_layer(&self) -> Option<&str> {
        self.files().find_map(|file| file.cache.every_layer.as_deref())
    }

    /// The reason why it is not known how vLLM sizes the cache, `None` where it is, or where the family is not known.
    pub fn cache_not_known(&self) -> Option<&str> {
        self.files().find_map(|file| file.cache.not_known.as_deref())
    }

    /// The files that speak of this model, nearest first.
    pub(super) fn files(&self) -> impl Iterator<Item = &FamilyFile> {
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
