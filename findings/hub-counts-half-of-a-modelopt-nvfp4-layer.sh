#!/usr/bin/env bash
# Version:   @huggingface/hub 2.17.5 (npm), the JavaScript client of the Hub. Needs `npm`.
# Input:     one linear layer of 64 x 128 = 8192 weights, with the names, types, shapes and `quantization_config` that the
#            writers of five formats give it, and `parseSafetensorsMetadata` with `computeParametersCount`. A `fetch` of our own
#            hands the two files over; nothing goes over the network.
# Behaviour: BF16, and NVFP4 and 4-bit integers of compressed-tensors, are counted right: the function knows how many weights
#            a byte holds. Of `quant_method: modelopt` it knows nothing, and the same NVFP4 bytes are half as many parameters.
#            Three bits of GPTQ, 32 weights in three words, are counted as ten weights to a word: 6% are missing. And where two
#            groups have two widths, so that the format of the whole is `mixed-precision`, a group whose `targets` is a regular
#            expression with an alternative is not found, and each word of eight weights is one parameter: an eighth.
# Seen:      2026-11-28
seen="8192 weights: BF16 8192; compressed-tensors NVFP4 8192; ModelOpt NVFP4 4096; GPTQ 4 bits 8192, 3 bits 7680; "
seen+="compressed-tensors INT4 8192, in mixed precision by re:.*up_proj 8192, by re:.*(up|gate)_proj 1024"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
npm install --silent --no-audit --no-fund --prefix "$scratch" @huggingface/hub@2.17.5

cat >"$scratch/shows.mjs" <<'JAVASCRIPT'
import { parseSafetensorsMetadata } from "@huggingface/hub";

const bytesOf = { BF16: 2, F16: 2, F32: 4, F8_E4M3: 1, I32: 4, I64: 8, U8: 1 };

function safetensors(layer) {
  const header = {};
  let end = 0;
  for (const [name, [dtype, ...shape]] of Object.entries(layer)) {
    const begin = end;
    end += shape.reduce((product, dimension) => product * dimension, bytesOf[dtype]);
    header[`model.layers.0.mlp.up_proj.${name}`] = { dtype, shape, data_offsets: [begin, end] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(end)]);
}

async function parameters(quantization_config, layer) {
  const files = {
    "config.json": Buffer.from(JSON.stringify({ model_type: "qwen3", quantization_config })),
    "model.safetensors": safetensors(layer),
  };
  const fetch = async (url, options) => {
    const file = files[new URL(url).pathname.split("/").pop()];
    if (!file) return new Response(null, { status: 404, headers: { "X-Error-Code": "EntryNotFound" } });
    const range = /bytes=(\d+)-(\d*)/.exec(new Headers(options?.headers).get("range") ?? "");
    const first = range ? Number(range[1]) : 0;
    const last = Math.min(range?.[2] ? Number(range[2]) : file.length, file.length - 1);
    const headers = { etag: '"one"', "content-range": `bytes ${first}-${last}/${file.length}` };
    return new Response(file.subarray(first, last + 1), { status: range ? 206 : 200, headers });
  };
  const read = await parseSafetensorsMetadata({ repo: "owner/name", computeParametersCount: true, fetch });
  return Object.values(read.parameterCount).reduce((sum, count) => sum + count, 0);
}

const nvfp4 = { num_bits: 4, type: "float", group_size: 16 };
const group = (num_bits, targets) => ({ targets, format: "pack-quantized", weights: { num_bits, type: "int", group_size: 128 } });
const compressed = (format, ...groups) => ({
  quant_method: "compressed-tensors",
  format,
  config_groups: Object.fromEntries(groups.map((each, index) => [`group_${index}`, each])),
  ignore: ["lm_head"],
});
const packed = { weight_packed: ["I32", 64, 16], weight_scale: ["BF16", 64, 1], weight_shape: ["I64", 2] };
const gptq = (bits) => ({
  qweight: ["I32", (128 * bits) / 32, 64],
  qzeros: ["I32", 1, (64 * bits) / 32],
  scales: ["F16", 1, 64],
  g_idx: ["I32", 128],
});
const mixed = (target) => compressed("mixed-precision", group(4, [target]), group(8, ["re:.*q_proj"]));

const counted = {
  bf16: await parameters(undefined, { weight: ["BF16", 64, 128] }),
  nvfp4: await parameters(
    compressed("nvfp4-pack-quantized", {
      targets: ["Linear"],
      format: "nvfp4-pack-quantized",
      weights: { ...nvfp4, strategy: "tensor_group" },
    }),
    { weight_packed: ["U8", 64, 64], weight_scale: ["F8_E4M3", 64, 8], weight_global_scale: ["F32", 1] },
  ),
  modelopt: await parameters(
    {
      quant_method: "modelopt",
      quant_algo: "NVFP4",
      config_groups: { group_0: { targets: ["Linear"], weights: nvfp4, input_activations: nvfp4 } },
      ignore: ["lm_head"],
    },
    { weight: ["U8", 64, 64], weight_scale: ["F8_E4M3", 64, 8], weight_scale_2: ["F32"], input_scale: ["F32"] },
  ),
  gptq4: await parameters({ quant_method: "gptq", bits: 4, group_size: 128 }, gptq(4)),
  gptq3: await parameters({ quant_method: "gptq", bits: 3, group_size: 128 }, gptq(3)),
  int4: await parameters(compressed("pack-quantized", group(4, ["Linear"])), packed),
  plain: await parameters(mixed("re:.*up_proj"), packed),
  either: await parameters(mixed("re:.*(up|gate)_proj"), packed),
};
console.log(
  `8192 weights: BF16 ${counted.bf16}; compressed-tensors NVFP4 ${counted.nvfp4}; ModelOpt NVFP4 ${counted.modelopt}; ` +
    `GPTQ 4 bits ${counted.gptq4}, 3 bits ${counted.gptq3}; compressed-tensors INT4 ${counted.int4}, ` +
    `in mixed precision by re:.*up_proj ${counted.plain}, by re:.*(up|gate)_proj ${counted.either}`,
);
JAVASCRIPT
found=$(node "$scratch/shows.mjs")
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "@huggingface/hub no longer counts the parameters of quantized layers as this script says" >&2
    exit 1
fi
