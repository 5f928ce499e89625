// Where a handler runs, as XLA says it: all that handlers of different platforms do not share.
#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "dropgemm/context.h"
#include "dropgemm/gemm.h"
#include "dropgemm/status.h"
#include "xla/ffi/api/ffi.h"

namespace dropgemm::python {

namespace ffi = xla::ffi;

// A backend, and XLA's stream and memory where it has them. Of OnCpu or OnCuda, below.
class Place {
 public:
  Place() = default;
  Place(void* stream, ffi::ScratchAllocator scratch)
      : stream_(stream), scratch_(std::move(scratch)) {}

  // Errors: those of find_backend(), where there is no CUDA backend.
  [[nodiscard]] Status enter(Context* context) const;
  // Scratch memory of XLA's until the end of the handler, in stream order. A graph that is captured
  // keeps its address, but XLA does not keep the memory for it: only for calls that are not.
  // Nothing on the CPU, whose backends have their own.
  [[nodiscard]] Status take_workspace(const GemmArgs& args, Context* context);

 private:
  void* stream_ = nullptr;
  std::optional<ffi::ScratchAllocator> scratch_;  // none: the CPU's backends have their own memory
};

// Tags for ffi::Binding::Ctx, each decoded as a Place.
struct OnCpu {};   // the backend in use
struct OnCuda {};  // the cuda backend

// A binding with the place as the last parameter.
template <class Tag, class Binding>
auto on(Binding binding) {
  return std::move(binding).template Ctx<Tag>();
}

// XLA may capture a CUDA graph of a handler that always does the same with the same addresses.
constexpr auto kCapturable = ffi::Traits::kCmdBufferCompatible;

}  // namespace dropgemm::python

template <>
struct xla::ffi::CtxDecoding<dropgemm::python::OnCpu> {
  using Type = dropgemm::python::Place;
  static std::optional<Type> Decode(const XLA_FFI_Api* /*api*/, XLA_FFI_ExecutionContext* /*ctx*/,
                                    DiagnosticEngine& /*diagnostic*/) {
    return Type();
  }
};

template <>
struct xla::ffi::CtxDecoding<dropgemm::python::OnCuda> {
  using Type = dropgemm::python::Place;
  static std::optional<Type> Decode(const XLA_FFI_Api* api, XLA_FFI_ExecutionContext* ctx,
                                    DiagnosticEngine& diagnostic) {
    auto stream = CtxDecoding<PlatformStream<void*>>::Decode(api, ctx, diagnostic);
    auto scratch = CtxDecoding<ScratchAllocator>::Decode(api, ctx, diagnostic);
    if (!stream.has_value() || !scratch.has_value()) return std::nullopt;
    return Type(*stream, std::move(*scratch));
  }
};
