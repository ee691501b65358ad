"""From CTC's logits to text: greedy and by beam search, with the probability of the answer."""

from __future__ import annotations

import tensorflow as tf

BEAM_WIDTH = 16


def greedy(logits: tf.Tensor) -> tf.Tensor:
    """The labels of the likeliest character at each frame.

    Args:
        logits: float32 [N, frames, classes]; class 0 is the blank.

    Returns:
        int32 [N, length]: character ids, padded with 0.
    """
    path = tf.argmax(logits, axis=-1, output_type=tf.int32)
    before = tf.pad(path[:, :-1], [[0, 0], [1, 0]])
    return tf.ragged.boolean_mask(path, (path != before) & (path != 0)).to_tensor()


def beam(logits: tf.Tensor, paths: int) -> list[tf.Tensor]:
    """The likeliest labels that a beam search finds.

    Args:
        logits: float32 [N, frames, classes]; class 0 is the blank.
        paths: how many answers a word.

    Returns:
        `paths` tensors int32 [N, length]: character ids, padded with 0.
    """
    blank_last = tf.transpose(tf.roll(logits, -1, axis=-1), [1, 0, 2])
    frames = tf.fill([tf.shape(logits)[0]], tf.shape(logits)[1])
    found, _ = tf.nn.ctc_beam_search_decoder(blank_last, frames, beam_width=BEAM_WIDTH, top_paths=paths)
    return [tf.cast(tf.sparse.to_dense(labels, default_value=-1), tf.int32) + 1 for labels in found]


def text(labels: tf.Tensor, alphabet: str) -> tf.Tensor:
    """Spells labels.

    Args:
        labels: int32 [N, length]: character ids, padded with 0.
        alphabet: the character of id i at i - 1.

    Returns:
        UTF-8 strings [N].
    """
    characters = tf.constant(["", *alphabet])
    return tf.strings.reduce_join(tf.gather(characters, labels), axis=-1)


def probability(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The network's probability of a text: of all paths that spell it, together (Graves et al., 2006, eq. 3).

    Args:
        logits: float32 [N, frames, classes]; class 0 is the blank.
        labels: int32 [N, length]: character ids, padded with 0.

    Returns:
        float32 [N] in [0, 1].
    """
    loss = tf.nn.ctc_loss(
        labels=tf.pad(labels, [[0, 0], [0, 1]]),  # A batch of blank answers has no column, which the loss refuses.
        logits=logits,
        label_length=tf.math.count_nonzero(labels, axis=-1, dtype=tf.int32),
        logit_length=tf.fill([tf.shape(logits)[0]], tf.shape(logits)[1]),
        logits_time_major=False,
        blank_index=0,
    )
    return tf.exp(-tf.maximum(loss, 0.0))
