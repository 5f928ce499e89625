// Contexts of calls; which is which is in place.h.
#include "place.h"

#include <string>

#include "dropgemm/backend.h"

namespace dropgemm::python {

Status Place::enter(Context* context) const {
  if (!scratch_) {
    *context = {};
    return {};
  }
  context->stream = stream_;
  return find_backend("cuda", &context->backend);
}

Status Place::take_workspace(const GemmArgs& args, Context* context) {
  if (!scratch_) return {};
  std::size_t bytes = 0;
  DROPGEMM_RETURN_IF_ERROR(gemm_workspace_bytes(*context, args, &bytes));
  if (bytes == 0) return {};
  constexpr std::size_t kAlignment = 64;
  const std::optional<void*> memory = scratch_->Allocate(bytes, kAlignment);
  if (!memory.has_value()) {
    return {StatusCode::kBackendError,
            "workspace: expected " + std::to_string(bytes) + " bytes of XLA, got none"};
  }
  context->workspace = *memory;
  context->workspace_bytes = bytes;
  return {};
}

}  // namespace dropgemm::python
