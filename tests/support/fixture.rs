//! Plans made by hand, a scheme whose output shows where it was written, and what the output must then be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::hub::sha256;
use qwen_fp8::checkpoint::config::Config;
use qwen_fp8::checkpoint::layout::{Placed, ShardLayout, TensorEntry};
use qwen_fp8::checkpoint::manifest::MANIFEST_FILE;
use qwen_fp8::checkpoint::side_files::SideFile;
use qwen_fp8::checkpoint::source::SourceFile;
use qwen_fp8::checkpoint::{Checkpoint, Shard, Tensor};
use qwen_fp8::plan::{Decision, Job, Plan, PlannedInput, Slot};
use qwen_fp8::recipe::{CacheDtype, Dialect, NonFinitePolicy, Recipe, RecipeText, Rule, ServingPolicy};
use qwen_fp8::schemes::{
    AmaxScope, Band, Dtype, Dynamic, Extent, Format, Make, Matrix, NonFinite, NumberKind, QuantizationArgs,
    Registration, Scheme, ServerSupport, ShapeError, SourceDtype, Strategy, TensorRole, TensorSpec,
};

/// Rows that share a scale of [`Stamp`].
pub(crate) const GROUP: usize = 4;

/// Writes a byte per element, a number per four rows, and one tensor per weight. No byte of it is zero, so that a byte
/// that nobody wrote is seen.
#[derive(Debug)]
pub(crate) struct Stamp {
    pub(crate) scope: AmaxScope,
    /// Set by the first band that begins at or after this row of a weight.
    pub(crate) trip: Option<(usize, &'static AtomicBool)>,
    pub(crate) bands: AtomicUsize,
}

impl Stamp {
    pub(crate) fn new(scope: AmaxScope) -> Self {
        Self { scope, trip: None, bands: AtomicUsize::new(0) }
    }
}

impl Scheme for Stamp {
    fn weights(&self) -> QuantizationArgs {
        QuantizationArgs {
            num_bits: 8,
            kind: NumberKind::Float,
            symmetric: true,
            strategy: Strategy::Channel,
            dynamic: Dynamic::Static,
            scale_dtype: None,
        }
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        None
    }

    fn storage_format(&self) -> &'static str {
        "stamp"
    }

    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        let spec = |suffix, role, dtype, shape, extent| TensorSpec { suffix, role, dtype, shape, extent };
        let Matrix { rows, columns, .. } = source;
        Ok(vec![
            spec("weight", TensorRole::Codes, Dtype::U8, vec![rows, columns], Extent::Rows(1)),
            spec("weight_scale", TensorRole::Scale, Dtype::U32, vec![rows.div_ceil(GROUP), 1], Extent::Rows(GROUP)),
            spec("weight_global", TensorRole::Other, Dtype::U8, vec![3], Extent::Whole),
        ])
    }

    fn band_rows(&self) -> usize {
        GROUP
    }

    fn amax_scope(&self) -> AmaxScope {
        self.scope
    }

    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        self.bands.fetch_add(1, Ordering::Relaxed);
        assert_eq!(band.first_row % GROUP, 0);
        assert_eq!(band.bytes.len(), band.rows * band.source.row_bytes());
        if let Some((row, flag)) = self.trip
            && row <= band.first_row
        {
            flag.store(true, Ordering::Relaxed);
        }
        for (index, element) in band.bytes.chunks_exact(2).enumerate() {
            if element == NAN {
                let (row, column) = (band.first_row + index / band.source.columns, index % band.source.columns);
                return Err(NonFinite { row, column, value: f32::NAN });
            }
        }
        let [weight, scale, global] = outputs else { panic!("three outputs") };
        assert_eq!(weight.len(), band.rows * band.source.columns);
        for (to, from) in weight.iter_mut().zip(band.bytes.chunks_exact(2)) {
            *to = stamp(from);
        }
        assert_eq!(scale.len(), band.rows.div_ceil(GROUP) * 4);
        for (index, to) in scale.chunks_exact_mut(4).enumerate() {
            to.copy_from_slice(&scale_value(band.first_row / GROUP + index, band.amax).to_le_bytes());
        }
        if band.first_row == 0 {
            global.copy_from_slice(b"all");
        } else {
            assert!(global.is_empty());
        }
        Ok(())
    }
}

/// A bf16 NaN.
pub(crate) const NAN: [u8; 2] = [0xc1, 0x7f];

fn stamp(element: &[u8]) -> u8 {
    (element[0] ^ element[1].rotate_left(3)) | 1
}

fn scale_value(group: usize, amax: Option<f32>) -> u32 {
    amax.map_or(0x0101_0101, f32::to_bits) ^ (group as u32).wrapping_mul(0x9e37_79b1) | 0x0101_0101
}

/// What happens to a tensor of a [`Case`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Copy,
    Band,
    Tensor,
}

/// A source tensor: its shape, its source shard, the output shard of its first output, what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) shape: Vec<usize>,
    pub(crate) from_shard: usize,
    pub(crate) to_shard: usize,
    pub(crate) action: Action,
}

/// A case that stays in its shard's namesake.
pub(crate) fn case(shape: &[usize], shard: usize, action: Action) -> Case {
    Case { shape: shape.to_vec(), from_shard: shard, to_shard: shard, action }
}

/// A source directory, the plan for it, and the bytes that every output file must have.
pub(crate) struct Fixture {
    pub(crate) root: tempfile::TempDir,
    pub(crate) plan: Plan,
    pub(crate) expected: Vec<(String, Vec<u8>)>,
}

/// Bytes before the first tensor of a source shard.
fn header_len(shard: usize) -> usize {
    24 + 8 * shard
}

impl Fixture {
    pub(crate) fn new(cases: &[Case]) -> Self {
        Self::edited(cases, |_, _| {})
    }

    /// With `edit` applied to each tensor's bytes.
    pub(crate) fn edited(cases: &[Case], edit: impl Fn(usize, &mut [u8])) -> Self {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("source");
        fs::create_dir(&source).unwrap();
        let shards = 1 + cases.iter().map(|case| case.from_shard.max(case.to_shard)).max().unwrap_or(0);
        let mut files: Vec<Vec<u8>> = (0..shards).map(|shard| vec![b'h'; header_len(shard)]).collect();
        let mut tensors = Vec::new();
        let mut datas = Vec::new();
        let mut order: Vec<usize> = (0..cases.len()).collect();
        order.sort_by_key(|&index| cases[index].from_shard);
        for &index in &order {
            let case = &cases[index];
            let len = case.shape.iter().product::<usize>() * 2;
            let mut data: Vec<u8> = (0..len).map(|at| noise(index, at)).collect();
            edit(index, &mut data);
            let file = &mut files[case.from_shard];
            tensors.push(Tensor {
                name: format!("layers.{index}.weight"),
                dtype: Dtype::BF16,
                shape: case.shape.clone(),
                shard: case.from_shard,
                offset: file.len() as u64,
                len: len as u64,
                layer: Default::default(),
            });
            file.extend(&data);
            datas.push(data);
        }
        let shard = |number: usize, bytes: &Vec<u8>| {
            let name = format!("model-{number}.safetensors");
            let path = source.join(&name);
            fs::write(&path, bytes).unwrap();
            let stamp = SourceFile::open(&path).unwrap().stamp();
            Shard {
                name,
                path,
                size: bytes.len() as u64,
                header: sha256(&bytes[..header_len(number)]),
                stamp,
                remote: None,
            }
        };
        let sources: Vec<Shard> = files.iter().enumerate().map(|(number, bytes)| shard(number, bytes)).collect();
        fs::write(source.join("tokenizer.json"), b"{}").unwrap();

        let mut layouts: Vec<ShardLayout> = (0..shards)
            .map(|shard| ShardLayout {
                file_name: format!("model-{shard}.safetensors"),
                header: vec![b'H'; 16 + 8 * shard],
                tensors: Vec::new(),
                size: 16 + 8 * shard as u64,
            })
            .collect();
        let mut contents: Vec<Vec<u8>> = layouts.iter().map(|layout| layout.header.clone()).collect();
        let mut jobs = Vec::new();
        for (position, &index) in order.iter().enumerate() {
            let (case, tensor, data) = (&cases[index], &tensors[position], &datas[position]);
            let mut place = |shard: usize, name: String, dtype, shape: &[usize], bytes: &[u8]| {
                let (layout, content) = (&mut layouts[shard], &mut contents[shard]);
                let entry = TensorEntry { name, dtype, shape: shape.to_vec() };
                layout.tensors.push(Placed { entry, offset: layout.size, len: bytes.len() as u64 });
                layout.size += bytes.len() as u64;
                content.extend(bytes);
                Slot { shard, tensor: layout.tensors.len() - 1 }
            };
            if case.action == Action::Copy {
                let to = place(case.to_shard, tensor.name.clone(), tensor.dtype, &tensor.shape, data);
                jobs.push(Job::Copy { to });
                continue;
            }
            let scope = if case.action == Action::Band { AmaxScope::Band } else { AmaxScope::Tensor };
            let (columns, leading) = case.shape.split_last().unwrap();
            let rows = leading.iter().product();
            let matrix = Matrix { dtype: SourceDtype::Bf16, rows, columns: *columns };
            let specs = Stamp::new(scope).outputs(matrix).unwrap();
            let bytes = expected(data, rows, scope);
            let outputs = specs.into_iter().zip(&bytes).enumerate().map(|(output, (spec, bytes))| {
                // The second output goes to the next shard, where there is one.
                let shard = if output == 1 { (case.to_shard + 1) % shards } else { case.to_shard };
                let slot = place(shard, format!("{}.{}", tensor.module(), spec.suffix), spec.dtype, &spec.shape, bytes);
                (spec, slot)
            });
            jobs.push(Job::Quantize { rule: usize::from(scope == AmaxScope::Tensor), outputs: outputs.collect() });
        }
        let mut expected: Vec<_> = layouts.iter().map(|layout| layout.file_name.clone()).zip(contents).collect();
        let documents = vec![
            ("model.safetensors.index.json".to_owned(), b"{\"index\": 1}".to_vec()),
            ("config.json".to_owned(), b"{\"config\": 1}".to_vec()),
        ];
        expected.extend(documents.iter().cloned());
        expected.push(("tokenizer.json".to_owned(), b"{}".to_vec()));
        expected.sort();
        let decisions = jobs.iter().map(|_| Decision { rule: None }).collect();
        let checkpoint = Checkpoint {
            dir: source.clone(),
            shards: sources,
            tensors,
            config: Config::parse(br#"{"model_type": "qwen3"}"#).unwrap(),
            model: Default::default(),
            card: None,
            side_files: vec![side_file(&source.join("tokenizer.json"))],
            left_out: Vec::new(),
            cut_to: None,
            adapters: Vec::new(),
            headers_only: false,
            repository: None,
            quantized: None,
        };
        let recipe = recipe(vec![Stamp::new(AmaxScope::Band), Stamp::new(AmaxScope::Tensor)]);
        let plan = Plan {
            unserved: BTreeMap::new(),
            recipe,
            inputs: checkpoint.tensors.iter().map(PlannedInput::stored).collect(),
            checkpoint,
            decisions,
            jobs,
            shards: layouts,
            documents,
            alignments: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            stays: qwen_fp8::plan::Stays::default(),
        };
        Self { root, plan, expected }
    }

    /// The same plan with other schemes.
    pub(crate) fn with(mut self, band: Stamp) -> Self {
        self.plan.recipe = recipe(vec![band, Stamp::new(AmaxScope::Tensor)]);
        self
    }

    /// Takes the source files as they are now for what the plan was made from.
    pub(crate) fn restamp(&mut self) {
        for (number, shard) in self.plan.checkpoint.shards.iter_mut().enumerate() {
            shard.stamp = SourceFile::open(&shard.path).unwrap().stamp();
            shard.header = sha256(&fs::read(&shard.path).unwrap()[..header_len(number)]);
        }
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.root.path().join("output")
    }

    /// Takes the source out of the page cache.
    pub(crate) fn evict(&self) {
        for shard in &self.plan.checkpoint.shards {
            let file = fs::File::open(&shard.path).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
    }

    /// Everything beside the source and the output.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "source" && name != "output")
            .collect();
        names.sort();
        names
    }
}

/// The files of a directory and their bytes, by name; the manifest, which has tests of its own, aside.
pub(crate) fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name() != MANIFEST_FILE)
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// What [`Stamp`] must write for the weight as a whole, in one go.
fn expected(data: &[u8], rows: usize, scope: AmaxScope) -> Vec<Vec<u8>> {
    let weight = data.chunks_exact(2).map(stamp).collect();
    let amax = match scope {
        AmaxScope::Band => None,
        // The bits of a bf16 without its sign are in the order of the magnitudes.
        AmaxScope::Tensor | AmaxScope::Fused => {
            let bits = data.chunks_exact(2).map(|element| u16::from_le_bytes([element[0], element[1]]) & 0x7fff);
            Some(f32::from_bits(u32::from(bits.max().unwrap_or(0)) << 16))
        }
    };
    let scale = (0..rows.div_ceil(GROUP)).flat_map(|group| scale_value(group, amax).to_le_bytes()).collect();
    vec![weight, scale, b"all".to_vec()]
}

/// Bytes that differ by tensor and position, no bf16 of which is NaN or infinite.
fn noise(tensor: usize, at: usize) -> u8 {
    let mixed = (tensor * 0x1_0001 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let byte = (mixed >> 32) as u8;
    if at % 2 == 1 { byte & 0xbf } else { byte }
}

pub(crate) fn side_file(path: &Path) -> SideFile {
    let file = SourceFile::open(path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    SideFile { name, path: path.into(), mode: file.mode(), stamp: file.stamp(), remote_code: false, remote: None }
}

fn recipe(schemes: Vec<Stamp>) -> Recipe {
    let rule = |scheme: Stamp| Rule {
        label: "rule".to_owned(),
        registration: &REGISTRATION,
        scheme: Some(Box::new(scheme)),
        options: serde_json::Map::new(),
        targets: Vec::new(),
        ignore: Vec::new(),
        linear_is_every_part: false,
        optional: false,
        requantize: false,
        on_misfit: qwen_fp8::recipe::MisfitPolicy::default(),
        span: 0..0,
    };
    Recipe {
        experts: qwen_fp8::recipe::ExpertsPolicy::default(),
        kv_cache: CacheDtype::Auto,
        text: RecipeText { path: PathBuf::from("recipe.yaml"), text: String::new() },
        dialect: Dialect::Native,
        model: None,
        adapters: Vec::new(),
        output: None,
        models: None,
        format: Format::Fp8,
        max_shard_size: None,
        serving: ServingPolicy::Enforce,
        on_nonfinite: NonFinitePolicy::Error,
        rules: schemes.into_iter().map(rule).collect(),
        model_card: Default::default(),
        expect: qwen_fp8::recipe::Expectations::default(),
    }
}

pub(crate) const REGISTRATION: Registration = Registration {
    name: "STAMP",
    aliases: &[],
    version: 1,
    summary: "Shows where a byte was written.",
    options: |generator| generator.subschema_for::<()>(),
    make: Make::Keep,
    from_arguments: |_, _| None,
    servers: ServerSupport { servers: &[], gpu: "none" },
    golden: &[],
};
