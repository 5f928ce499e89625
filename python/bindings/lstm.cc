// The element-wise half of an LSTM's step (dropgemm/lstm.h).
#include "dropgemm/lstm.h"

#include "array.h"
#include "module.h"

namespace dropgemm::python {

namespace {

// Calls a function of the core without the GIL.
template <class Args>
void call(Status (*function)(const Context&, const Args&), const Args& args) {
  Status status;
  {
    nb::gil_scoped_release released;
    status = function({}, args);
  }
  raise_if_error(status);
}

void cell(nb::handle sums, nb::handle c_before, nb::handle gates, nb::handle c, nb::handle h) {
  const Matrix matrices[] = {to_matrix("sums", sums, Access::kRead),
                             to_matrix("c_before", c_before, Access::kRead),
                             to_matrix("gates", gates, Access::kWrite),
                             to_matrix("c", c, Access::kWrite), to_matrix("h", h, Access::kWrite)};
  const auto& [x, before, active, cells, hidden] = matrices;
  call(lstm_cell, LstmCellArgs{x.view, before.view, active.view, cells.view, hidden.view});
}

void cell_grad(nb::handle gates, nb::handle c_before, nb::handle c, nb::handle d_h, nb::handle d_c,
               nb::handle d_gates) {
  const Matrix matrices[] = {
      to_matrix("gates", gates, Access::kRead), to_matrix("c_before", c_before, Access::kRead),
      to_matrix("c", c, Access::kRead),         to_matrix("d_h", d_h, Access::kRead),
      to_matrix("d_c", d_c, Access::kWrite),    to_matrix("d_gates", d_gates, Access::kWrite)};
  const auto& [active, before, cells, of_h, of_c, of_gates] = matrices;
  call(lstm_cell_grad,
       LstmCellGradArgs{active.view, before.view, cells.view, of_h.view, of_c.view, of_gates.view});
}

}  // namespace

void bind_lstm(nb::module_& module) {
  module.def("lstm_cell", cell, nb::arg("sums"), nb::arg("c_before"), nb::arg("gates"),
             nb::arg("c"), nb::arg("h"),
             "Writes gates, c and h of one step; dropgemm/lstm.h defines every argument. Matrices\n"
             "are as in matmul. Releases the GIL.");
  module.def("lstm_cell_grad", cell_grad, nb::arg("gates"), nb::arg("c_before"), nb::arg("c"),
             nb::arg("d_h"), nb::arg("d_c"), nb::arg("d_gates"),
             "The gradient of lstm_cell: updates d_c, writes d_gates. Releases the GIL.");
}

}  // namespace dropgemm::python
