//! The rows of a matrix that servers see as several: queries, keys and values, or two halves.

use super::catalogue::StoredFused;
use super::layer::Layer;
use super::model::Model;

impl Model {
    /// Returns what the rows of a module's matrix are where servers see several in it.
    pub fn stored_fused(&self, module: &str) -> Option<StoredFused> {
        self.files().find_map(|file| {
            let mut all = file.stored_fused.iter();
            all.find(|(_, patterns)| patterns.iter().any(|pattern| pattern.matches(module))).map(|(&what, _)| what)
        })
    }

    /// Returns the parts that servers see in the rows of a layer's matrix, each with the number of its rows on one of `gpus`
    /// GPUs; none where they see one, or where their numbers are not known. A single GPU reads a last part that ends inside a
    /// block.
    pub fn parts_of_rows(&self, layer: Layer, rows: usize, gpus: usize) -> Vec<(&'static str, usize)> {
        match layer.stored_fused {
            Some(StoredFused::Halves) => vec![("rows in each half", rows / 2 / gpus); 2],
            Some(StoredFused::QueriesKeysValues) => {
                let Some(heads) = self.heads() else { return Vec::new() };
                let all = heads.keys.checked_mul(2).and_then(|keys| keys.checked_add(heads.queries));
                let Some(all) = all.filter(|all| rows.is_multiple_of(*all)) else { return Vec::new() };
                let (head, keys) = (rows / all, heads.keys_of(gpus));
                vec![
                    ("rows of queries", heads.queries / gpus * head),
                    ("rows of keys", keys * head),
                    ("rows of values", keys * head),
                ]
            }
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::models::heads::AttentionHeads;

    fn model(config: &str) -> Model {
        let config = format!(r#"{{"model_type": "phi3", {config}}}"#);
        Model::of(&Config::parse(config.as_bytes()).unwrap(), std::iter::empty())
    }

    #[test]
    fn parts_have_the_rows_of_their_heads() {
        let grouped = model(r#""num_attention_heads": 12, "num_key_value_heads": 4"#);
        let of = |model: &Model, module: &str, rows, gpus| {
            model.parts_of_rows(model.layer(&format!("{module}.weight"), 2), rows, gpus)
        };
        let rows = |module: &str, gpus| of(&grouped, module, 20 * 64, gpus);
        assert_eq!(
            rows("a.qkv_proj", 2),
            [("rows of queries", 6 * 64), ("rows of keys", 2 * 64), ("rows of values", 2 * 64)]
        );
        assert_eq!(rows("a.qkv_proj", 8)[1], ("rows of keys", 64));
        assert_eq!(rows("a.gate_up_proj", 2), [("rows in each half", 320); 2]);
        assert!(rows("a.q_proj", 1).is_empty());
        assert!(of(&grouped, "a.visual.b.qkv_proj", 1280, 1).is_empty());
        assert!(of(&grouped, "a.qkv_proj", 1281, 1).is_empty());
        let one = model(r#""n_head": 12, "multi_query": true"#);
        assert_eq!(of(&one, "a.c_attn", 14 * 64, 1)[1], ("rows of keys", 64));
        let newer = model(r#""n_head": 12, "multi_query": true, "new_decoder_architecture": true, "num_kv_heads": 4"#);
        assert_eq!(newer.heads(), Some(AttentionHeads { queries: 12, keys: 4 }));
    }
}
