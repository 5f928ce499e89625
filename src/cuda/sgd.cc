// A step of stochastic gradient descent on the device.
#include "cuda/sgd.h"

#include "cuda/launch.h"
#include "cuda/runtime.h"
#include "registry.h"

namespace dropgemm::cuda {
namespace {

template <class T>
Status launch_step(const Context& ctx, const SgdArgs& args, const Device& device) {
  using Kernel = SgdKernel<T>;
  typename Kernel::Params params;
  params.w = static_cast<T*>(args.w);
  params.g = static_cast<const T*>(args.g);
  params.v = static_cast<T*>(args.v);
  params.size = args.size;
  params.lr = static_cast<T>(args.lr);
  params.momentum = static_cast<T>(args.momentum);
  params.undampened = static_cast<T>(1.0 - args.dampening);
  params.weight_decay = static_cast<T>(args.weight_decay);
  params.nesterov = args.nesterov;
  params.maximize = args.maximize;
  params.first = args.first;
  return launch<Kernel>(grid_of(device, args.size, Kernel::kThreads), 0, ctx.stream, params);
}

Status run(const Context& ctx, const SgdArgs& args) {
  const Device* device = nullptr;
  DROPGEMM_RETURN_IF_ERROR(find_device_of({{"w", args.w}, {"g", args.g}, {"v", args.v}}, &device));
  OnDevice on_device;
  DROPGEMM_RETURN_IF_ERROR(on_device.enter(*device));
  return args.dtype == DType::kFloat64 ? launch_step<double>(ctx, args, *device)
                                       : launch_step<float>(ctx, args, *device);
}

}  // namespace

std::int32_t sgd(const Context* ctx, const SgdArgs* args, ErrorText error) {
  return report(run(*ctx, *args), error);
}

}  // namespace dropgemm::cuda
