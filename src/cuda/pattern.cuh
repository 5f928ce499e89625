// The kernel that writes patterns. The bits are those of src/reference/pattern.cc.
#pragma once

#include "cuda/mask_word.cuh"
#include "cuda/pattern.h"

namespace dropgemm::cuda {

// drawn_pattern() with the thresholds counted by all threads of the block.
DROPGEMM_DEVICE Pattern draw_pattern(const PatternDraw& draw, const Block& block) {
  constexpr std::int32_t kThreads = PatternMaskKernel::kThreads;
  auto* const reached = reinterpret_cast<std::uint32_t*>(block.shared);
  DrawStream stream = {draw.seed, Domain::kPattern, static_cast<std::uint32_t>(draw.site),
                       static_cast<std::uint32_t>(read_step(draw.step)),
                       static_cast<std::uint32_t>(read_call(draw))};
  const std::uint32_t drawn = stream.draw(0);
  if (block.thread == 0) *reached = 0;
  sync_block();
  std::uint32_t own = 0;
  for (std::int64_t i = block.thread; i + 1 < draw.periods; i += kThreads) {
    own += drawn >= draw.thresholds[i] ? 1 : 0;
  }
  if (own != 0) atomic_add(reached, own);
  sync_block();
  Pattern pattern;
  pattern.period = 1 + static_cast<std::int64_t>(*reached);
  stream.domain = Domain::kOffset;
  pattern.offset = static_cast<std::int64_t>(
      std::uint64_t{stream.draw(0)} * static_cast<std::uint64_t>(pattern.period) >> 32);
  return pattern;
}

DROPGEMM_DEVICE void PatternMaskKernel::run(const Params& params, const Block& block) {
  const Pattern pattern = params.drawn ? draw_pattern(params.draw, block) : params.pattern;
  if (params.scale != nullptr && block.index == 0 && block.thread == 0) {
    *params.scale = static_cast<float>(pattern.period);
  }
  const std::int64_t row_words = (params.columns + 31) / 32;
  const std::int64_t period = pattern.period, skew = params.skew % period;
  const std::int64_t stride = std::int64_t{block.count} * kThreads;
  for (std::int64_t at = std::int64_t{block.index} * kThreads + block.thread; at < params.words;
       at += stride) {
    const std::int64_t row = at / row_words, word = at % row_words;
    // How far the word's first column is past a kept one, so the next kept one is period - past on.
    std::int64_t past = (32 * word + skew * (row % period) - pattern.offset) % period;
    if (past < 0) past += period;
    std::uint32_t packed = 0;
    for (std::int64_t bit = past == 0 ? 0 : period - past; bit < 32; bit += period) {
      packed |= std::uint32_t{1} << bit;
    }
    params.bits[at] = packed & valid_bits(params.columns, word);
  }
}

}  // namespace dropgemm::cuda
