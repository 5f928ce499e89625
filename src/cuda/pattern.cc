// Patterns on the device.
#include "cuda/pattern.h"

#include "cuda/launch.h"
#include "cuda/runtime.h"
#include "registry.h"

namespace dropgemm::cuda {
namespace {

Status run(const Context& ctx, const PatternMaskArgs& args) {
  const MutableTileMaskView& mask = args.mask;
  PatternMaskKernel::Params params;
  params.words = mask_words(mask.rows, mask.cols, mask.tile_rows, mask.tile_cols);
  params.bits = params.words > 0 ? mask.bits : nullptr;
  params.columns = ceil_div(mask.cols, mask.tile_cols);
  params.skew = pattern_skew(args);
  params.scale = args.scale;
  params.drawn = args.draw != nullptr;
  params.pattern = args.pattern;
  if (params.drawn) params.draw = *args.draw;
  const Device* device = nullptr;
  DROPGEMM_RETURN_IF_ERROR(find_device_of({{"mask", params.bits},
                                           {"scale", args.scale},
                                           {"thresholds", params.draw.thresholds},
                                           {"step", params.draw.step.device},
                                           {"call", params.draw.call_device}},
                                          &device));
  OnDevice on_device;
  DROPGEMM_RETURN_IF_ERROR(on_device.enter(*device));
  return launch<PatternMaskKernel>(grid_of(*device, params.words, PatternMaskKernel::kThreads),
                                   PatternMaskKernel::kSharedBytes, ctx.stream, params);
}

}  // namespace

std::int32_t pattern_mask(const Context* ctx, const PatternMaskArgs* args, ErrorText error) {
  return report(run(*ctx, *args), error);
}

}  // namespace dropgemm::cuda
