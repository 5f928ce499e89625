// The product (dropgemm/gemm.h): operands a, b, then those of the optional ones that are there;
// results d, then those that are asked for. A workspace is a result that nobody reads: memory that
// XLA keeps for the call, also where it replays a graph of it.
#include "dropgemm/gemm.h"

#include <cfenv>
#include <optional>

#include "buffers.h"
#include "place.h"
#include "targets.h"

namespace dropgemm::python {

// What is fixed when a program is compiled. A mask without a layout is absent.
struct ProductAttrs {
  Layout a_mask, b_mask, out_mask;
  double a_keep = 1.0, b_keep = 1.0, out_keep = 1.0;
  bool trans_a = false, trans_b = false;
  bool bias = false, addend = false, scale_array = false, out_scale_array = false;
  bool aux_out = false, workspace = false;
  double scale = 1.0, out_scale = 1.0;
  std::int64_t activation = 0, precision = 0;
  bool deterministic = false;
};

}  // namespace dropgemm::python

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(
    dropgemm::python::ProductAttrs, xla::ffi::StructMember<dropgemm::python::Layout>("a_mask"),
    xla::ffi::StructMember<dropgemm::python::Layout>("b_mask"),
    xla::ffi::StructMember<dropgemm::python::Layout>("out_mask"),
    xla::ffi::StructMember<double>("a_keep"), xla::ffi::StructMember<double>("b_keep"),
    xla::ffi::StructMember<double>("out_keep"), xla::ffi::StructMember<bool>("trans_a"),
    xla::ffi::StructMember<bool>("trans_b"), xla::ffi::StructMember<bool>("bias"),
    xla::ffi::StructMember<bool>("addend"), xla::ffi::StructMember<bool>("scale_array"),
    xla::ffi::StructMember<bool>("out_scale_array"), xla::ffi::StructMember<bool>("aux_out"),
    xla::ffi::StructMember<bool>("workspace"), xla::ffi::StructMember<double>("scale"),
    xla::ffi::StructMember<double>("out_scale"), xla::ffi::StructMember<std::int64_t>("activation"),
    xla::ffi::StructMember<std::int64_t>("precision"),
    xla::ffi::StructMember<bool>("deterministic"));

namespace dropgemm::python {

namespace {

// The floating-point environment that the core and its threads know. XLA's threads flush numbers
// below the normal ones to zero, ours do not: which thread computes an element must not show in it.
class DefaultFloats {
 public:
  DefaultFloats() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloats() { std::fesetenv(&before_); }
  DefaultFloats(const DefaultFloats&) = delete;
  DefaultFloats& operator=(const DefaultFloats&) = delete;

 private:
  std::fenv_t before_{};
};

// Takes the optional operands one after the other.
class Operands {
 public:
  explicit Operands(const ffi::RemainingArgs& arguments) : arguments_(arguments) {}

  Status mask(const char* name, Layout layout, double keep_hint,
              std::optional<TileMaskView>* view) {
    if (layout.size() == 0) return {};
    view->emplace();
    return next(name, [&](const ffi::AnyBuffer& bits) {
      return to_mask(name, bits, layout, keep_hint, &**view);
    });
  }

  template <class Convert>
  Status next(const char* name, Convert convert) {
    auto buffer = arguments_.get<ffi::AnyBuffer>(index_++);
    if (!buffer.has_value()) return Status::invalid(name, "an operand", "none");
    return convert(*buffer);
  }

 private:
  const ffi::RemainingArgs& arguments_;
  std::size_t index_ = 0;
};

// GemmArgs whose pointers lead into the other members.
struct Product {
  std::optional<TileMaskView> a_mask, b_mask, out_mask;
  GemmArgs args;

  Status read(const ProductAttrs& attrs, const ffi::RemainingArgs& rest);
  Status write(const ProductAttrs& attrs, const ffi::RemainingRets& rest);
};

const TileMaskView* pointer(const std::optional<TileMaskView>& mask) {
  return mask ? &*mask : nullptr;
}

Status Product::read(const ProductAttrs& attrs, const ffi::RemainingArgs& rest) {
  Operands operands(rest);
  DROPGEMM_RETURN_IF_ERROR(operands.mask("a_mask", attrs.a_mask, attrs.a_keep, &a_mask));
  DROPGEMM_RETURN_IF_ERROR(operands.mask("b_mask", attrs.b_mask, attrs.b_keep, &b_mask));
  DROPGEMM_RETURN_IF_ERROR(operands.mask("out_mask", attrs.out_mask, attrs.out_keep, &out_mask));
  args.a_mask = pointer(a_mask);
  args.b_mask = pointer(b_mask);
  args.d_mask = pointer(out_mask);
  if (attrs.bias) {
    DROPGEMM_RETURN_IF_ERROR(operands.next("bias", [&](const ffi::AnyBuffer& buffer) {
      void* data = nullptr;
      DROPGEMM_RETURN_IF_ERROR(to_vector("bias", buffer, args.a.dtype, gemm_shape(args).n, &data));
      args.bias = data;
      return Status();
    }));
  }
  if (attrs.addend) {
    DROPGEMM_RETURN_IF_ERROR(operands.next("addend", [&](const ffi::AnyBuffer& buffer) {
      MatrixView view;
      DROPGEMM_RETURN_IF_ERROR(to_matrix("addend", buffer, &view));
      args.addend = view;
      return Status();
    }));
  }
  const auto factor = [&](const char* name, const float** target) {
    return operands.next(name, [&](const ffi::AnyBuffer& buffer) {
      float* data = nullptr;
      DROPGEMM_RETURN_IF_ERROR(to_float_scalar(name, buffer, &data));
      *target = data;
      return Status();
    });
  };
  if (attrs.scale_array) DROPGEMM_RETURN_IF_ERROR(factor("scale", &args.scale_device));
  if (attrs.out_scale_array) DROPGEMM_RETURN_IF_ERROR(factor("out_scale", &args.out_scale_device));
  return {};
}

Status Product::write(const ProductAttrs& attrs, const ffi::RemainingRets& rest) {
  if (!attrs.aux_out) return {};
  auto buffer = rest.get<ffi::AnyBuffer>(0);
  if (!buffer.has_value()) return Status::invalid("aux_out", "a result", "none");
  return to_matrix("aux_out", **buffer, &args.aux_out);
}

// The last of the results, where there is one.
Status find_workspace(const ProductAttrs& attrs, const ffi::RemainingRets& rest, Context* context) {
  auto buffer = rest.get<ffi::AnyBuffer>(attrs.aux_out ? 1 : 0);
  if (!buffer.has_value()) return Status::invalid("workspace", "a result", "none");
  context->workspace_bytes = (*buffer)->size_bytes();
  context->workspace = context->workspace_bytes > 0 ? (*buffer)->untyped_data() : nullptr;
  return {};
}

Status run(const ffi::AnyBuffer& a, const ffi::AnyBuffer& b, const ffi::RemainingArgs& operands,
           const ProductAttrs& attrs, const ffi::AnyBuffer& d, const ffi::RemainingRets& results,
           Place& place) {
  Product product;
  GemmArgs& args = product.args;
  MatrixView left, right;
  DROPGEMM_RETURN_IF_ERROR(to_matrix("a", a, &left));
  DROPGEMM_RETURN_IF_ERROR(to_matrix("b", b, &right));
  DROPGEMM_RETURN_IF_ERROR(to_matrix("out", d, &args.d));
  args.a = left;
  args.b = right;
  args.trans_a = attrs.trans_a;
  args.trans_b = attrs.trans_b;
  args.scale = attrs.scale;
  args.out_scale = attrs.out_scale;
  args.activation = static_cast<Activation>(attrs.activation);
  args.precision = static_cast<Precision>(attrs.precision);
  args.deterministic = attrs.deterministic;
  DROPGEMM_RETURN_IF_ERROR(product.read(attrs, operands));
  DROPGEMM_RETURN_IF_ERROR(product.write(attrs, results));
  Context context;
  if (attrs.workspace) DROPGEMM_RETURN_IF_ERROR(find_workspace(attrs, results, &context));
  DROPGEMM_RETURN_IF_ERROR(place.enter(&context));
  if (!attrs.workspace) DROPGEMM_RETURN_IF_ERROR(place.take_workspace(args, &context));
  const DefaultFloats floats;
  return gemm(context, args);
}

ffi::Error matmul(ffi::AnyBuffer a, ffi::AnyBuffer b, ffi::RemainingArgs operands,
                  ProductAttrs attrs, Result d, ffi::RemainingRets results, Place place) {
  return to_error(run(a, b, operands, attrs, *d, results, place));
}

auto binding() {
  return ffi::Ffi::Bind()
      .Arg<ffi::AnyBuffer>()  // a
      .Arg<ffi::AnyBuffer>()  // b
      .RemainingArgs()
      .Attrs<ProductAttrs>()
      .Ret<ffi::AnyBuffer>()  // d
      .RemainingRets();
}

XLA_FFI_DEFINE_HANDLER(on_cpu, matmul, on<OnCpu>(binding()));
XLA_FFI_DEFINE_HANDLER(on_cuda, matmul, on<OnCuda>(binding()));
XLA_FFI_DEFINE_HANDLER(on_cuda_in_workspace, matmul, on<OnCuda>(binding()), {kCapturable});

}  // namespace

const Target kMatmul = {"matmul", on_cpu, on_cuda};
const Target kMatmulInWorkspace = {"matmul_in_workspace", on_cpu, on_cuda_in_workspace};

}  // namespace dropgemm::python
