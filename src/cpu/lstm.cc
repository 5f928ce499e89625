// The element-wise half of an LSTM's step: rows of samples, shared out among threads.
#include "cpu/lstm.h"

#include "cpu/isa.h"
#include "cpu/threads.h"

namespace dropgemm::cpu {
namespace {

constexpr std::int64_t kUnitsPerThread = 2048;  // worth waking one for

template <class S>
const S* row_of(const ConstMatrixView& m, std::int64_t row) {
  return static_cast<const S*>(m.data) + row * m.row_stride;
}
template <class S>
S* row_of(const MatrixView& m, std::int64_t row) {
  return static_cast<S*>(m.data) + row * m.row_stride;
}

// Calls run(Format) with one whose storage is of this dtype.
template <class Run>
void with_storage(DType dtype, const Run& run) {
  if (dtype == DType::kFloat32) return run(F32{});
  if (dtype == DType::kFloat64) return run(F64{});
  run(BF16AsF32{});
}

template <class Work>
void each_row(const Context& ctx, const ConstMatrixView& c, const Work& work) {
  split(ctx.num_threads, c.rows, c.rows * c.cols / kUnitsPerThread,
        [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t row = begin; row < end; ++row) work(row);
        });
}

}  // namespace

std::int32_t lstm_cell(const Context* ctx, const LstmCellArgs* args, ErrorText /*error*/) {
  with_storage(args->c.dtype, [&](auto format) {
    typedef typename decltype(format)::Storage S;
    const auto cell = kernels<decltype(format)>().lstm_cell;
    each_row(*ctx, args->c, [&](std::int64_t row) {
      cell({row_of<S>(args->sums, row), row_of<S>(args->c_before, row), row_of<S>(args->gates, row),
            row_of<S>(args->c, row), row_of<S>(args->h, row), args->c.cols});
    });
  });
  return 0;
}

std::int32_t lstm_cell_grad(const Context* ctx, const LstmCellGradArgs* args, ErrorText /*error*/) {
  with_storage(args->c.dtype, [&](auto format) {
    typedef typename decltype(format)::Storage S;
    const auto grad = kernels<decltype(format)>().lstm_cell_grad;
    each_row(*ctx, args->c, [&](std::int64_t row) {
      grad({row_of<S>(args->gates, row), row_of<S>(args->c_before, row), row_of<S>(args->c, row),
            row_of<S>(args->d_h, row), row_of<S>(args->d_c, row), row_of<S>(args->d_gates, row),
            args->c.cols});
    });
  });
  return 0;
}

}  // namespace dropgemm::cpu
