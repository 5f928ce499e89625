// matmul and what is known of it before: the one operator (dropgemm/gemm.h), every field of
// GemmArgs reachable.
#include <string>

#include <nanobind/stl/string.h>

#include "array.h"
#include "dropgemm/backend.h"
#include "dropgemm/gemm.h"
#include "module.h"

namespace dropgemm::python {

namespace {

// A call's operands: GemmArgs whose pointers lead into the other members.
struct GemmCall {
  GemmCall() = default;
  GemmCall(const GemmCall&) = delete;
  GemmCall& operator=(const GemmCall&) = delete;

  Matrix a, b, d, addend, aux_out, grad_aux;
  Vector bias, a_sum;
  FloatScalar scale, out_scale;
  std::optional<Mask> a_mask, b_mask, d_mask;
  GemmArgs args;
  Context context;
};

void raise_unless(bool holds, const std::string& name, const std::string& expected,
                  const std::string& got) {
  if (!holds) raise_if_error(Status::invalid(name, expected, got));
}

void check_vector(const char* name, const Vector& vector, std::int64_t size, const char* size_name,
                  DType dtype) {
  if (vector.dtype != dtype) {
    raise_if_error(Status::invalid_type(name, std::string(dtype_name(dtype)) + " as a",
                                        dtype_name(vector.dtype)));
  }
  raise_unless(vector.size == size, name,
               "[" + std::string(size_name) + "] = [" + std::to_string(size) + "]",
               "[" + std::to_string(vector.size) + "]");
}

// The core knows neither the length of a bias nor of a_sum: those are checked here.
void set_vectors(GemmCall& call, nb::handle bias, nb::handle a_sum) {
  const GemmShape shape = gemm_shape(call.args);
  if (!bias.is_none()) {
    call.bias = to_vector("bias", bias, Access::kRead);
    check_vector("bias", call.bias, shape.n, "N", call.args.a.dtype);
    call.args.bias = call.bias.data;
    call.args.bias_stride = call.bias.stride;
  }
  if (!a_sum.is_none()) {
    call.a_sum = to_vector("a_sum", a_sum, Access::kWrite);
    check_vector("a_sum", call.a_sum, shape.m, "M", call.args.a.dtype);
    raise_unless(call.a_sum.stride == 1 || call.a_sum.size <= 1, "a_sum", "a contiguous array",
                 "stride " + std::to_string(call.a_sum.stride));
    call.args.a_sum = call.a_sum.data;
  }
}

// Defines `name` with every argument of a product; `finish` gets the filled call.
template <class Finish>
void def_product(nb::module_& module, const char* name, const char* doc, Finish finish) {
  module.def(
      name,
      [finish](nb::handle a, nb::handle b, nb::handle d, nb::handle a_mask, nb::handle b_mask,
               nb::handle d_mask, bool trans_a, bool trans_b, double scale, double out_scale,
               nb::handle scale_array, nb::handle out_scale_array, nb::handle addend,
               nb::handle bias, int activation, nb::handle aux_out, nb::handle grad_aux,
               int grad_activation, nb::handle a_sum, bool dropped_are_zero, bool undefined_fill,
               int precision, bool deterministic, int num_threads, const std::string& backend,
               nb::handle stream, std::uintptr_t b_packed) {
        GemmCall call;
        GemmArgs& args = call.args;
        call.a = to_matrix("a", a, Access::kRead);
        call.b = to_matrix("b", b, Access::kRead);
        call.d = to_matrix("out", d, Access::kWrite);
        args.a = call.a.view;
        args.b = call.b.view;
        args.d = call.d.view;
        args.trans_a = trans_a;
        args.trans_b = trans_b;
        call.a_mask = to_mask("a_mask", a_mask);
        call.b_mask = to_mask("b_mask", b_mask);
        call.d_mask = to_mask("out_mask", d_mask);
        args.a_mask = call.a_mask ? &call.a_mask->view : nullptr;
        args.b_mask = call.b_mask ? &call.b_mask->view : nullptr;
        args.d_mask = call.d_mask ? &call.d_mask->view : nullptr;
        args.scale = scale;
        args.out_scale = out_scale;
        call.scale = to_float_scalar("scale", scale_array, Access::kRead);
        call.out_scale = to_float_scalar("out_scale", out_scale_array, Access::kRead);
        args.scale_device = call.scale.data;
        args.out_scale_device = call.out_scale.data;
        if (!addend.is_none()) {
          call.addend = to_matrix("addend", addend, Access::kRead);
          args.addend = call.addend.view;
        }
        args.activation = static_cast<Activation>(activation);
        if (!aux_out.is_none()) {
          call.aux_out = to_matrix("aux_out", aux_out, Access::kWrite);
          args.aux_out = call.aux_out.view;
        }
        if (!grad_aux.is_none()) {
          call.grad_aux = to_matrix("grad_aux", grad_aux, Access::kRead);
          args.grad_aux = call.grad_aux.view;
        }
        args.grad_activation = static_cast<Activation>(grad_activation);
        set_vectors(call, bias, a_sum);
        args.dropped_are_zero = dropped_are_zero;
        args.precision = static_cast<Precision>(precision);
        args.deterministic = deterministic;
        args.b_packed = reinterpret_cast<const void*>(b_packed);
        args.out_fill = undefined_fill ? OutFill::kUndefined : OutFill::kZero;
        call.context = to_context(stream);
        call.context.num_threads = num_threads;
        if (!backend.empty()) raise_if_error(find_backend(backend, &call.context.backend));
        return finish(call);
      },
      nb::arg("a"), nb::arg("b"), nb::arg("d"), nb::arg("a_mask") = nb::none(),
      nb::arg("b_mask") = nb::none(), nb::arg("d_mask") = nb::none(), nb::arg("trans_a") = false,
      nb::arg("trans_b") = false, nb::arg("scale") = 1.0, nb::arg("out_scale") = 1.0,
      nb::arg("scale_array") = nb::none(), nb::arg("out_scale_array") = nb::none(),
      nb::arg("addend") = nb::none(), nb::arg("bias") = nb::none(), nb::arg("activation") = 0,
      nb::arg("aux_out") = nb::none(), nb::arg("grad_aux") = nb::none(),
      nb::arg("grad_activation") = 0, nb::arg("a_sum") = nb::none(),
      nb::arg("dropped_are_zero") = false, nb::arg("undefined_fill") = false,
      nb::arg("precision") = 0, nb::arg("deterministic") = false, nb::arg("num_threads") = 0,
      nb::arg("backend") = "", nb::arg("stream") = nb::none(), nb::arg("b_packed") = 0, doc);
}

void matmul(const GemmCall& call) {
  Status status;
  {
    nb::gil_scoped_release released;
    status = gemm(call.context, call.args);
  }
  raise_if_error(status);
}

std::string matmul_plan(const GemmCall& call) {
  GemmPlan plan;
  raise_if_error(gemm_plan(call.context, call.args, &plan));
  return to_string(plan);
}

std::size_t matmul_workspace_bytes(const GemmCall& call) {
  std::size_t bytes = 0;
  raise_if_error(gemm_workspace_bytes(call.context, call.args, &bytes));
  return bytes;
}

GemmArgs packing_args(const Matrix& b, bool trans_b, int precision) {
  GemmArgs args;
  args.b = b.view;
  args.trans_b = trans_b;
  args.precision = static_cast<Precision>(precision);
  return args;
}

std::size_t packed_bytes(nb::handle b, bool trans_b, int precision) {
  const Matrix matrix = to_matrix("b", b, Access::kRead);
  std::size_t bytes = 0;
  raise_if_error(gemm_packed_bytes({}, packing_args(matrix, trans_b, precision), &bytes));
  return bytes;
}

void pack(nb::handle b, nb::handle packed, bool trans_b, int precision) {
  const Matrix matrix = to_matrix("b", b, Access::kRead);
  const GemmArgs args = packing_args(matrix, trans_b, precision);
  std::size_t bytes = 0;
  raise_if_error(gemm_packed_bytes({}, args, &bytes));
  const Bytes memory = to_bytes("packed", packed, static_cast<std::int64_t>(bytes));
  Status status;
  {
    nb::gil_scoped_release released;
    status = gemm_pack({}, args, memory.data);
  }
  raise_if_error(status);
}

}  // namespace

void bind_gemm(nb::module_& module) {
  def_product(module, "matmul",
              "Writes D = out_scale act(scale (A . Ma)(B . Mb) + addend + bias) act'(grad_aux)\n"
              ". Md to d; dropgemm/gemm.h defines every argument. Operands are arrays or tuples\n"
              "(address, dtype code, rows, cols, row stride, col stride), vectors arrays or\n"
              "(address, dtype code, size, stride), masks (bits, rows, cols, tile rows,\n"
              "tile cols, keep hint, transposed). stream: None, or the handle of the stream\n"
              "of arrays on a CUDA device. b_packed: the address of what pack() made of b, or 0.\n"
              "Releases the GIL.",
              matmul);
  def_product(module, "matmul_plan",
              "How the backend would go about the same call: 'pruned units 128x32x32 work 0.25'.",
              matmul_plan);
  def_product(module, "matmul_workspace_bytes",
              "The scratch memory that the same call takes, wherever its operands lie.",
              matmul_workspace_bytes);
  module.def("packed_bytes", packed_bytes, nb::arg("b"), nb::arg("trans_b") = false,
             nb::arg("precision") = 0, "The size of what pack() writes.");
  module.def(
      "pack", pack, nb::arg("b"), nb::arg("packed"), nb::arg("trans_b") = false,
      nb::arg("precision") = 0,
      "Writes to packed, 64-byte aligned, what matmul takes as b_packed in products with the\n"
      "same b, trans_b and precision (gemm_pack of dropgemm/gemm.h). packed: an address or an\n"
      "array of packed_bytes() bytes. Releases the GIL.");
}

}  // namespace dropgemm::python
