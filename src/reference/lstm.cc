// The definition of lstm_cell() and its gradient: element by element in float64.
#include <cmath>

#include "reference/reference.h"

namespace dropgemm::reference {
namespace {

template <class T>
double get(const ConstMatrixView& m, std::int64_t i, std::int64_t j) {
  return static_cast<double>(static_cast<const T*>(m.data)[i * m.row_stride + j]);
}
template <class T>
void set(const MatrixView& m, std::int64_t i, std::int64_t j, double value) {
  static_cast<T*>(m.data)[i * m.row_stride + j] = T(value);
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

template <class T>
void cell(const LstmCellArgs& args) {
  const std::int64_t units = args.c.cols;
  for (std::int64_t row = 0; row < args.c.rows; ++row) {
    for (std::int64_t j = 0; j < units; ++j) {
      const auto sum = [&](int gate) { return get<T>(args.sums, row, gate * units + j); };
      const double gates[] = {sigmoid(sum(0)), sigmoid(sum(1)), std::tanh(sum(2)), sigmoid(sum(3))};
      const double c = gates[1] * get<T>(args.c_before, row, j) + gates[0] * gates[2];
      for (int gate = 0; gate < 4; ++gate) set<T>(args.gates, row, gate * units + j, gates[gate]);
      set<T>(args.c, row, j, c);
      set<T>(args.h, row, j, gates[3] * std::tanh(c));
    }
  }
}

template <class T>
void grad(const LstmCellGradArgs& args) {
  const std::int64_t units = args.c.cols;
  for (std::int64_t row = 0; row < args.c.rows; ++row) {
    for (std::int64_t j = 0; j < units; ++j) {
      const auto gate = [&](int which) { return get<T>(args.gates, row, which * units + j); };
      const double i = gate(0), f = gate(1), g = gate(2), o = gate(3);
      const double d_h = get<T>(args.d_h, row, j), t = std::tanh(get<T>(args.c, row, j));
      const double d_c = get<T>(args.d_c, row, j) + d_h * o * (1 - t * t);
      const double d_sums[] = {d_c * g * i * (1 - i),
                               d_c * get<T>(args.c_before, row, j) * f * (1 - f),
                               d_c * i * (1 - g * g), d_h * t * o * (1 - o)};
      for (int which = 0; which < 4; ++which) {
        set<T>(args.d_gates, row, which * units + j, d_sums[which]);
      }
      set<T>(args.d_c, row, j, d_c * f);
    }
  }
}

}  // namespace

std::int32_t lstm_cell(const Context* /*ctx*/, const LstmCellArgs* args, ErrorText /*error*/) {
  switch (args->c.dtype) {
    case DType::kFloat32:
      cell<float>(*args);
      break;
    case DType::kFloat64:
      cell<double>(*args);
      break;
    default:
      cell<BFloat16>(*args);
  }
  return 0;
}

std::int32_t lstm_cell_grad(const Context* /*ctx*/, const LstmCellGradArgs* args,
                            ErrorText /*error*/) {
  switch (args->c.dtype) {
    case DType::kFloat32:
      grad<float>(*args);
      break;
    case DType::kFloat64:
      grad<double>(*args);
      break;
    default:
      grad<BFloat16>(*args);
  }
  return 0;
}

}  // namespace dropgemm::reference
