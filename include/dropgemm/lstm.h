// What an LSTM's step does between its products, unit by unit. With the sums of input gate, forget
// gate, candidate and output gate side by side, [rows, 4 units]:
//
//   i, f, o = sigmoid(sums)   g = tanh(sums)   c = f c_before + i g   h = o tanh(c)
//
// and the gradient of that. One pass over memory each, where a framework takes one for each
// function. The cuda backend has them not. Defined by src/reference/lstm.cc.
#pragma once

#include "dropgemm/context.h"
#include "dropgemm/matrix.h"
#include "dropgemm/status.h"

namespace dropgemm {

// Arrays of one dtype, float32, float64 or bfloat16, whose columns lie side by side. Outputs share
// memory with nothing.
struct LstmCellArgs {
  ConstMatrixView sums;      // [rows, 4 units]
  ConstMatrixView c_before;  // [rows, units], as c and h
  MatrixView gates;          // [rows, 4 units]: i, f, g, o, which the gradient needs
  MatrixView c, h;
};

struct LstmCellGradArgs {
  ConstMatrixView gates, c_before, c;  // as above
  ConstMatrixView d_h;                 // [rows, units], as d_c
  MatrixView d_c;                      // updated: from the gradient of c to that of c_before
  MatrixView d_gates;                  // [rows, 4 units]: of the sums
};

// Sums are of the dtype, of float32 for bfloat16. Bits do not depend on the number of threads.
// Errors: kInvalidArgument (operand, expected, got), kInvalidType, kUnsupported.
[[nodiscard]] Status lstm_cell(const Context& ctx, const LstmCellArgs& args);
[[nodiscard]] Status lstm_cell_grad(const Context& ctx, const LstmCellGradArgs& args);

}  // namespace dropgemm
