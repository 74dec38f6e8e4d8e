//! The content pass: every tensor of a result, read in pieces on all cores and compared with its source.

mod buffers;
mod pass_through;
mod reader;
mod weight;

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::decode::{BLOCK_STACK, Meter, QuantizedWeight, Shards};
use crate::open::CheckError;
use crate::report::Finding;
use crate::rules::q5_source::{reference, tensors};
use crate::rules::{q4_cache, q4_values};
use crate::source::{
    CheckedAs, CheckedTensor, GlobalScaleCheck, OpenedSource, Original, RecordedActions, ScaleRule, first_difference,
};
use crate::structure::Structure;
use buffers::BufferPool;
use pass_through::PassThrough;
use qwen_fp8_checkpoint::progress::ProgressSink;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::{Checkpoint, Tensor};
use reader::OutputReader;

/// A result and what it was made from.
pub(crate) struct ContentPass<'a> {
    output: &'a Checkpoint,
    shards: &'a Shards,
    source: Option<&'a OpenedSource<'a>>,
    structure: &'a Structure<'a>,
    recorded: &'a RecordedActions,
    /// Names of the result's tensors, and of its weights where their codes have another.
    here: BTreeSet<String>,
}

impl<'a> ContentPass<'a> {
    pub(crate) fn new(
        output: &'a Checkpoint,
        shards: &'a Shards,
        source: Option<&'a OpenedSource<'a>>,
        structure: &'a Structure<'a>,
        recorded: &'a RecordedActions,
    ) -> Self {
        let mut here: BTreeSet<String> = output.tensors.iter().map(|tensor| tensor.name.clone()).collect();
        here.extend(structure.weights.iter().map(QuantizedWeight::name));
        Self { output, shards, source, structure, recorded, here }
    }

    /// Reads every tensor that can be judged, and returns the tensors with their figures.
    ///
    /// # Errors
    /// A file cannot be read, or changed meanwhile; [`CheckError::Cancelled`].
    pub(crate) fn check(
        &self,
        progress: &dyn ProgressSink,
        findings: &mut Vec<Finding>,
    ) -> Result<Vec<CheckedTensor>, CheckError> {
        let reader = OutputReader { shards: self.shards, recorded: self.recorded, buffers: BufferPool::default() };
        let tensors = sorted(self.output);
        let what = if self.source.is_some() { "comparing with the source" } else { "decoding" };
        progress.reading(what, tensors.iter().map(|tensor| self.bytes_to_read(tensor)).sum());
        // Tensors in parallel, and the pieces of each too: one weight may be half of a small model.
        let checked: Vec<_> = tensors
            .par_iter()
            .map(|tensor| {
                if progress.is_cancelled() {
                    return Err(CheckError::Cancelled);
                }
                let mut findings = Vec::new();
                progress.at(&tensor.name);
                let meter = Meter::new(progress, self.bytes_to_read(tensor));
                let checked = match (self.structure.weight(tensor), self.source) {
                    (Some(weight), None) => {
                        Some(weight::check(&reader, weight, None, ScaleRule::Majority, &meter, &mut findings)?)
                    }
                    (Some(weight), Some(source)) => self.quantized(&reader, weight, source, &meter, &mut findings)?,
                    // Scales are read with the weight that they belong to.
                    (None, _) if self.structure.is_auxiliary(tensor) => None,
                    (None, None) => {
                        let storage = self.structure.stack(tensor).map(|_| BLOCK_STACK.to_owned());
                        Some(CheckedTensor {
                            storage,
                            ..CheckedTensor::plain(&tensor.name, CheckedAs::Unread, tensor.len)
                        })
                    }
                    (None, Some(source)) => self.unquantized(tensor, source, &meter, &mut findings)?,
                };
                Ok((checked, findings))
            })
            .collect::<Result<_, CheckError>>()?;
        let mut results = Vec::new();
        for (checked, found) in checked {
            results.extend(checked);
            findings.extend(found);
        }
        // What follows needs all tensors: a fused layer has several, and the scale rule is what most of them follow.
        q4_values::stacks(&self.structure.stacks, self.shards, findings)?;
        q4_values::global_scales(&self.output.model, &self.structure.weights, findings);
        reference::input_scales(&self.structure.weights, self.recorded, findings);
        if let Some(source) = self.source {
            findings.extend(source.lost(&self.here).iter().map(|name| tensors::lost(name)));
            reference::scales(&results, findings);
            let globals = GlobalScaleCheck::of(&self.output.model, &self.structure.weights, &results, source);
            reference::global_scales(&globals, findings);
            source.check_unchanged()?;
        }
        self.shards.check_unchanged()?;
        Ok(results)
    }

    /// Returns the bytes of a tensor that will be read.
    fn bytes_to_read(&self, tensor: &Tensor) -> u64 {
        let is_unread =
            self.source.is_none() && self.structure.weight(tensor).is_none() && !self.structure.is_auxiliary(tensor);
        if is_unread { 0 } else { tensor.len }
    }

    /// Checks a quantized weight against its original.
    fn quantized(
        &self,
        reader: &OutputReader<'_>,
        weight: &QuantizedWeight<'_>,
        source: &OpenedSource<'_>,
        meter: &Meter<'_>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<CheckedTensor>, SourceError> {
        let Some(original) = self.original(source, &weight.name()) else {
            findings.push(tensors::extra(weight.codes));
            return Ok(None);
        };
        if !original.is_float() || original.shape() != weight.shape {
            findings.push(tensors::changed_form(weight.codes, &weight.shape, &original));
            return Ok(None);
        }
        match pass_through::check(reader, weight, &original, meter)? {
            PassThrough::Same(checked) => Ok(Some(checked)),
            PassThrough::Altered(finding) => {
                findings.push(finding);
                Ok(None)
            }
            // No rule tells scales that were fitted to data, so that only the source's own bytes prove such a weight.
            PassThrough::Requantized(_) if weight.form.storage.transposed().is_some() => {
                findings.push(tensors::fitted(weight));
                Ok(None)
            }
            PassThrough::Requantized(rule) => {
                weight::check(reader, weight, Some(original), rule, meter, findings).map(Some)
            }
        }
    }

    /// Checks an unquantized tensor against its original.
    fn unquantized(
        &self,
        tensor: &Tensor,
        source: &OpenedSource<'_>,
        meter: &Meter<'_>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<CheckedTensor>, SourceError> {
        let Some(original) = self.original(source, &tensor.name) else {
            // Measured on data, as the scales of activations are: the verdict counts them.
            if !q4_cache::is_cache_scale(self.output, tensor) {
                findings.push(tensors::extra(tensor));
            }
            return Ok(None);
        };
        if (tensor.dtype, &*tensor.shape) != (original.dtype(), original.shape()) {
            findings.push(tensors::changed_form(tensor, &tensor.shape, &original));
            return Ok(None);
        }
        if let Some(at) = first_difference(self.shards, tensor, &original, meter)? {
            findings.push(tensors::bytes_differ(tensor, at));
            return Ok(None);
        }
        let of_stack = self.structure.stack(tensor);
        let action = match of_stack {
            Some(_) => CheckedAs::PassedThrough,
            None if original.is_changed() => CheckedAs::Merged,
            None if original.is_decoded() => CheckedAs::Dequantized,
            None => CheckedAs::Copied,
        };
        let storage = of_stack.map(|_| BLOCK_STACK.to_owned());
        Ok(Some(CheckedTensor { storage, ..CheckedTensor::plain(&tensor.name, action, tensor.len) }))
    }

    /// Returns what the tensor of this name was made from.
    fn original<'s>(&self, source: &'s OpenedSource<'_>, name: &str) -> Option<Original<'s>> {
        // A matrix of a stack that the result has as well is one too many: a server would load both.
        let is_only = |original: &Original<'_>| original.stack().is_none_or(|stack| !self.here.contains(&stack.name));
        source.original(name).filter(is_only)
    }
}

fn sorted(checkpoint: &Checkpoint) -> Vec<&Tensor> {
    let mut tensors: Vec<_> = checkpoint.tensors.iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors
}
