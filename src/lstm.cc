// The front ends of lstm_cell() and lstm_cell_grad(): check every operand by name, then hand over
// to a backend.
#include "dropgemm/lstm.h"

#include <string>
#include <vector>

#include "dropgemm/backend.h"
#include "operands.h"
#include "registry.h"

namespace dropgemm {
namespace {

struct Operand {
  const char* name;
  ConstMatrixView view;
  std::int64_t gates;  // columns of each unit
  bool written;
};

// Every operand is a matrix as c is, of so many rows and units.
Status check_operand(const Operand& x, const ConstMatrixView& c) {
  DROPGEMM_RETURN_IF_ERROR(check_matrix(x.name, x.view));
  DROPGEMM_RETURN_IF_ERROR(check_dtype(x.name, x.view.dtype, "c", c.dtype));
  const std::int64_t rows = c.rows, cols = x.gates * c.cols;
  if (x.view.rows != rows || x.view.cols != cols) {
    return Status::invalid(x.name, "shape " + size_text(rows, cols),
                           size_text(x.view.rows, x.view.cols));
  }
  if (x.view.col_stride != 1 && cols > 1) {
    return Status::invalid(x.name, "columns side by side",
                           "a stride of " + std::to_string(x.view.col_stride));
  }
  return {};
}

Status check_operands(const std::vector<Operand>& operands, const ConstMatrixView& c) {
  if (c.dtype == DType::kFloat16) {
    return Status::invalid_type("c", "float32, float64 or bfloat16", dtype_name(c.dtype));
  }
  for (const Operand& x : operands) DROPGEMM_RETURN_IF_ERROR(check_operand(x, c));
  for (const Operand& out : operands) {
    if (!out.written) continue;
    const MatrixView view{const_cast<void*>(out.view.data),
                          out.view.rows,
                          out.view.cols,
                          out.view.row_stride,
                          out.view.col_stride,
                          out.view.dtype};
    DROPGEMM_RETURN_IF_ERROR(check_output(out.name, view));
    for (const Operand& other : operands) {
      if (&other == &out) continue;
      DROPGEMM_RETURN_IF_ERROR(check_disjoint(out.name, view, other.name, other.view));
    }
  }
  return {};
}

// Runs a function of the table, where it has one.
template <class Args>
Status run(const Context& ctx, const Args& args, const char* name,
           std::int32_t (*Backend::*function)(const Context*, const Args*, ErrorText)) {
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(resolve_backend(ctx, &backend));
  if (backend->*function == nullptr) {
    return {StatusCode::kUnsupported,
            std::string(name) + ": expected the cpu backend, got " + backend->name};
  }
  return call_backend([&](ErrorText error) { return (backend->*function)(&ctx, &args, error); });
}

}  // namespace

Status lstm_cell(const Context& ctx, const LstmCellArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_operands({{"sums", args.sums, 4, false},
                                           {"c_before", args.c_before, 1, false},
                                           {"gates", args.gates, 4, true},
                                           {"c", args.c, 1, true},
                                           {"h", args.h, 1, true}},
                                          args.c));
  return run(ctx, args, "lstm_cell", &Backend::lstm_cell);
}

Status lstm_cell_grad(const Context& ctx, const LstmCellGradArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_operands({{"gates", args.gates, 4, false},
                                           {"c_before", args.c_before, 1, false},
                                           {"c", args.c, 1, false},
                                           {"d_h", args.d_h, 1, false},
                                           {"d_c", args.d_c, 1, true},
                                           {"d_gates", args.d_gates, 4, true}},
                                          args.c));
  return run(ctx, args, "lstm_cell_grad", &Backend::lstm_cell_grad);
}

}  // namespace dropgemm
