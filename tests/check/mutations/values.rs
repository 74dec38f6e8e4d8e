//! Numbers: codes, scales and what is copied.

use super::*;

pub(super) static MUTATIONS: &[Mutation] = &[
    content("a code one step off", Base::Block, "Q502", CONTENT, |folder| {
        let tensor = folder.tensor(&weight(Q));
        let at = some_element(tensor);
        tensor.bytes[at] ^= 1;
    }),
    content("a code one step off, a scale per row", Base::Channel, "Q502", CONTENT, |folder| {
        let tensor = folder.tensor(&weight(Q));
        let at = some_element(tensor);
        tensor.bytes[at] ^= 1;
    }),
    content("a flipped sign", Base::Block, "Q502", CONTENT, |folder| {
        let tensor = folder.tensor(&weight(DOWN));
        let at = some_element(tensor);
        tensor.bytes[at] ^= 0x80;
    }),
    content("the last code", Base::Block, "Q502", CONTENT, |folder| {
        *folder.tensor(&weight(DOWN)).bytes.last_mut().unwrap() ^= 0x08;
    }),
    content("an end that was never written", Base::Block, "Q502", CONTENT, |folder| {
        let bytes = &mut folder.tensor(&weight(UP)).bytes;
        let at = bytes.len() - 4096;
        bytes[at..].fill(0);
    }),
    content("rows moved by one", Base::Block, "Q502", CONTENT, |folder| {
        let tensor = folder.tensor(&weight(UP));
        let columns = tensor.shape[1];
        tensor.bytes.rotate_right(columns);
    }),
    content("a NaN code", Base::Block, "Q402", CONTENT, |folder| folder.tensor(&weight(V)).bytes[77] = 0x7F),
    content("a negative NaN code", Base::Channel, "Q402", CONTENT, |folder| folder.tensor(&weight(V)).bytes[0] = 0xFF),
    content("the lowest bit of a BF16 scale", Base::Block, "Q506", CONTENT, |folder| {
        folder.tensor(&scale_inv(O)).bytes[2] ^= 1;
    }),
    content("the lowest bit of an F32 scale", Base::BlockF32, "Q506", CONTENT, |folder| {
        folder.tensor(&scale_inv(O)).bytes[0] ^= 1;
    }),
    content("the highest bit of a scale's exponent", Base::Block, "Q502", CONTENT, |folder| {
        folder.tensor(&scale_inv(O)).bytes[1] ^= 0x20;
    }),
    content("a doubled scale", Base::Channel, "Q502", CONTENT, |folder| {
        // One up in the exponent.
        let bytes = &mut folder.tensor(&scale(UP)).bytes[..2];
        let doubled = u16::from_le_bytes([bytes[0], bytes[1]]) + 0x80;
        bytes.copy_from_slice(&doubled.to_le_bytes());
    }),
    content("scales of two weights swapped", Base::Block, "Q502", CONTENT, |folder| {
        folder.swap(&scale_inv(Q), &scale_inv(O));
    }),
    content("two scales of a weight swapped", Base::Block, "Q502", CONTENT, |folder| {
        let bytes = &mut folder.tensor(&scale_inv(UP)).bytes;
        let (a, b) = bytes.split_at_mut(2);
        assert_ne!(a[..2], b[..2]);
        a[..2].swap_with_slice(&mut b[..2]);
    }),
    content("weights of two layers swapped", Base::Block, "Q502", CONTENT, |folder| {
        folder.swap(&weight(Q), &weight(O))
    }),
    content("two layers swapped, scales and all", Base::Block, "Q502", CONTENT, |folder| {
        folder.swap(&weight(Q), &weight(O));
        folder.swap(&scale_inv(Q), &scale_inv(O));
    }),
    content("an infinite scale", Base::Block, "Q401", STRUCTURE, |folder| set_scale(folder, f32::INFINITY)),
    content("a NaN scale", Base::Block, "Q401", STRUCTURE, |folder| set_scale(folder, f32::NAN)),
    content("a scale of zero", Base::Block, "Q401", STRUCTURE, |folder| set_scale(folder, 0.0)),
    content("a negative scale", Base::Block, "Q401", STRUCTURE, |folder| set_scale(folder, -0.01)),
    content("an uninitialised scale", Base::Block, "Q401", STRUCTURE, |folder| set_scale(folder, f32::MIN)),
    content("the lowest bit of a scale that was looked for", Base::Searched, "Q502", CONTENT, |folder| {
        folder.tensor(&scale(UP)).bytes[20] ^= 1;
    }),
    content("the lowest bit of an F32 scale that was looked for", Base::HalfSearched, "Q506", CONTENT, |folder| {
        folder.tensor(&scale_inv(UP)).bytes[0] ^= 1;
    }),
    content("the same beside those that were", Base::HalfSearched, "Q506", CONTENT, |folder| {
        folder.tensor(&scale_inv(DOWN)).bytes[0] ^= 1;
    }),
    content(
        "the scale of the largest weight in place of one that was looked for",
        Base::Searched,
        "Q502",
        CONTENT,
        |folder| {
            let largest = Folder::read(Base::Channel.dir()).tensor(&scale(UP)).bytes.clone();
            assert_ne!(folder.tensor(&scale(UP)).bytes, largest);
            folder.tensor(&scale(UP)).bytes = largest;
        },
    ),
    content("a scale that was looked for, doubled", Base::HalfSearched, "Q506", CONTENT, |folder| {
        let bytes = &mut folder.tensor(&scale_inv(UP)).bytes[..4];
        let doubled = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) * 2.0;
        bytes.copy_from_slice(&doubled.to_le_bytes());
    }),
    content("a scale that a search tries, and not the best", Base::HalfSearched, "Q506", CONTENT, |folder| {
        let bytes = &mut folder.tensor(&scale_inv(UP)).bytes[..4];
        let original = Folder::read(&source()).tensor(&weight(UP)).clone();
        let stride = original.shape[1];
        let block = (0..128).flat_map(|row| (0..128).map(move |column| row * stride + column));
        let largest =
            block.map(|at| half::bf16::from_le_bytes([original.bytes[2 * at], original.bytes[2 * at + 1]]).to_f32());
        let largest = largest.fold(0f32, |largest, weight| largest.max(weight.abs()));
        bytes.copy_from_slice(&(largest * 0.75 / 448.0).to_le_bytes());
    }),
    content("a flipped bit in a norm", Base::Block, "Q501", CONTENT, |folder| folder.tensor(NORM).bytes[5] ^= 4),
    content("a flipped bit in the head", Base::Channel, "Q501", CONTENT, |folder| {
        *folder.tensor("lm_head.weight").bytes.last_mut().unwrap() ^= 0x80;
    }),
    content("a copied tensor of zeros", Base::Block, "Q501", CONTENT, |folder| {
        folder.tensor(&weight(QKV)).bytes.fill(0)
    }),
];
