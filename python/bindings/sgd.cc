// One step of stochastic gradient descent (dropgemm/sgd.h) on arrays that the caller owns.
#include "dropgemm/sgd.h"

#include <cstdint>
#include <string>

#include "array.h"
#include "module.h"

namespace dropgemm::python {

namespace {

// The core takes addresses and one size: what it cannot see is checked here.
Vector to_contiguous(const char* name, nb::handle object, Access access, const Vector* like) {
  Vector vector = to_vector(name, object, access);
  if (vector.stride != 1 && vector.size > 1) {
    raise_if_error(
        Status::invalid(name, "a contiguous array", "stride " + std::to_string(vector.stride)));
  }
  if (like != nullptr && vector.size != like->size) {
    raise_if_error(Status::invalid(name, "[" + std::to_string(like->size) + "] as w",
                                   "[" + std::to_string(vector.size) + "]"));
  }
  if (like != nullptr && vector.dtype != like->dtype) {
    raise_if_error(Status::invalid_type(name, std::string(dtype_name(like->dtype)) + " as w",
                                        dtype_name(vector.dtype)));
  }
  return vector;
}

void step(nb::handle w, nb::handle g, nb::handle v, double lr, double momentum, double dampening,
          double weight_decay, bool nesterov, bool maximize, bool first, nb::handle stream) {
  const Vector weights = to_contiguous("w", w, Access::kWrite, nullptr);
  const Vector gradient = to_contiguous("g", g, Access::kRead, &weights);
  Vector velocity;
  if (!v.is_none()) velocity = to_contiguous("v", v, Access::kWrite, &weights);
  const Context context = to_context(stream);
  SgdArgs args;
  args.w = weights.data;
  args.g = gradient.data;
  args.v = velocity.data;
  args.size = weights.size;
  args.dtype = weights.dtype;
  args.lr = lr;
  args.momentum = momentum;
  args.dampening = dampening;
  args.weight_decay = weight_decay;
  args.nesterov = nesterov;
  args.maximize = maximize;
  args.first = first;
  Status status;
  {
    nb::gil_scoped_release released;
    status = sgd(context, args);
  }
  raise_if_error(status);
}

}  // namespace

void bind_sgd(nb::module_& module) {
  module.def("sgd", step, nb::arg("w"), nb::arg("g"), nb::arg("v").none(), nb::arg("lr"),
             nb::arg("momentum") = 0.0, nb::arg("dampening") = 0.0, nb::arg("weight_decay") = 0.0,
             nb::arg("nesterov") = false, nb::arg("maximize") = false, nb::arg("first") = false,
             nb::arg("stream") = nb::none(),
             "One step of stochastic gradient descent: updates w, and v where it is not None;\n"
             "dropgemm/sgd.h defines every argument. Vectors are as in matmul, contiguous.\n"
             "Releases the GIL.");
}

}  // namespace dropgemm::python
