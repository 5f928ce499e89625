// The front end of sgd(): checks every operand by name, then hands over to a backend.
#include "dropgemm/sgd.h"

#include <string>

#include "dropgemm/backend.h"
#include "operands.h"
#include "registry.h"

namespace dropgemm {
namespace {

Status check_momentum(const SgdArgs& args) {
  if (args.size == 0 || (args.momentum != 0.0) == (args.v != nullptr)) return {};
  return Status::invalid("v", "an array where momentum is not 0, and none where it is 0",
                         (args.v != nullptr ? "one with momentum " : "none with momentum ") +
                             std::to_string(args.momentum));
}

Status check_args(const SgdArgs& args) {
  if (args.dtype != DType::kFloat32 && args.dtype != DType::kFloat64) {
    return Status::invalid_type("w", "float32 or float64", dtype_name(args.dtype));
  }
  const MatrixView w{args.w, 1, args.size, args.size, 1, args.dtype};
  const ConstMatrixView g{args.g, 1, args.size, args.size, 1, args.dtype};
  const MatrixView v{args.v, 1, args.size, args.size, 1, args.dtype};
  DROPGEMM_RETURN_IF_ERROR(check_output("w", w));
  DROPGEMM_RETURN_IF_ERROR(check_matrix("g", g));
  DROPGEMM_RETURN_IF_ERROR(check_momentum(args));
  if (args.v != nullptr) DROPGEMM_RETURN_IF_ERROR(check_output("v", v));
  DROPGEMM_RETURN_IF_ERROR(check_disjoint("w", w, "g", g));
  DROPGEMM_RETURN_IF_ERROR(check_disjoint("w", w, "v", v));
  return check_disjoint("v", v, "g", g);
}

}  // namespace

Status sgd(const Context& ctx, const SgdArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_args(args));
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(resolve_backend(ctx, &backend));
  if (args.size == 0) return {};
  return call_backend([&](ErrorText error) { return backend->sgd(&ctx, &args, error); });
}

}  // namespace dropgemm
