// Mask generation on the device: which kernel, over how many blocks.
#include "cuda/mask.h"

#include "cuda/launch.h"
#include "cuda/runtime.h"
#include "registry.h"

namespace dropgemm::cuda {
namespace {

Status run(const Context& ctx, const BernoulliMaskArgs& args) {
  const Device* device = nullptr;
  DROPGEMM_RETURN_IF_ERROR(
      find_device_of({{"mask", args.mask.bits}, {"step", args.step.device}}, &device));
  OnDevice on_device;
  DROPGEMM_RETURN_IF_ERROR(on_device.enter(*device));
  const MutableTileMaskView& mask = args.mask;
  BernoulliMaskKernel::Params params;
  params.bits = mask.bits;
  params.words = mask_words(mask.rows, mask.cols, mask.tile_rows, mask.tile_cols);
  params.columns = ceil_div(mask.cols, mask.tile_cols);
  params.first = args.first_row / mask.tile_rows;
  params.threshold = drop_threshold(args.p);
  params.stream = {args.seed, Domain::kBits, static_cast<std::uint32_t>(args.site), 0,
                   static_cast<std::uint32_t>(args.call)};
  params.step = args.step;
  return launch<BernoulliMaskKernel>(grid_of(*device, params.words, BernoulliMaskKernel::kThreads),
                                     0, ctx.stream, params);
}

}  // namespace

std::int32_t bernoulli_mask(const Context* ctx, const BernoulliMaskArgs* args, ErrorText error) {
  return report(run(*ctx, *args), error);
}

}  // namespace dropgemm::cuda
