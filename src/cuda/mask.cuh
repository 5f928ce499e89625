// The kernels of mask generation. The bits are those of src/reference/mask.cc.
#pragma once

#include "cuda/mask.h"

namespace dropgemm::cuda {

// The bits of word `word` of a row of `count` bits that are not padding.
DROPGEMM_DEVICE std::uint32_t valid_bits(std::int64_t count, std::int64_t word) {
  const std::int64_t left = count - word * 32;
  return left >= 32 ? 0xFFFFFFFFU : (std::uint32_t{1} << left) - 1;
}

// 32 bits, kept where a draw reaches the threshold, of the draws from block `first` on.
DROPGEMM_DEVICE std::uint32_t threshold_word(const DrawStream& stream, std::uint32_t first,
                                             std::uint64_t threshold) {
  std::uint32_t packed = 0;
  for (std::uint32_t i = 0; i < 8; ++i) {
    const PhiloxBlock draws = stream.block(first + i);
    for (std::uint32_t j = 0; j < 4; ++j) {
      packed |= static_cast<std::uint32_t>(draws.word[j] >= threshold) << (4 * i + j);
    }
  }
  return packed;
}

DROPGEMM_DEVICE void BernoulliMaskKernel::run(const Params& params, const Block& block) {
  DrawStream stream = params.stream;
  stream.index = static_cast<std::uint32_t>(read_step(params.step));
  const std::int64_t row_words = (params.columns + 31) / 32;
  const std::int64_t row_blocks = (params.columns + 3) / 4;
  const std::int64_t stride = std::int64_t{block.count} * kThreads;
  for (std::int64_t at = std::int64_t{block.index} * kThreads + block.thread; at < params.words;
       at += stride) {
    const std::int64_t row = at / row_words, word = at % row_words;
    const std::int64_t first = (params.first + row) * row_blocks + 8 * word;
    params.bits[at] = threshold_word(stream, static_cast<std::uint32_t>(first), params.threshold) &
                      valid_bits(params.columns, word);
  }
}

}  // namespace dropgemm::cuda
