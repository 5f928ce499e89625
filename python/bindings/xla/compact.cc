// Compaction (dropgemm/compact.h) of buffers.
#include "dropgemm/compact.h"

#include "buffers.h"
#include "place.h"
#include "targets.h"

namespace dropgemm::python {

struct CompactAttrs {
  Layout mask;  // as to_mask() takes it
  std::int64_t axis = 0;
};

}  // namespace dropgemm::python

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(dropgemm::python::CompactAttrs,
                                      xla::ffi::StructMember<dropgemm::python::Layout>("mask"),
                                      xla::ffi::StructMember<std::int64_t>("axis"));

namespace dropgemm::python {

namespace {

// The same of either direction: x [rows, cols] and its mask, xc the compact side.
template <class Args>
Status move(const ffi::AnyBuffer& x, const ffi::AnyBuffer& xc, const ffi::AnyBuffer& bits,
            const CompactAttrs& attrs, const Place& place,
            Status (*run)(const Context&, const Args&)) {
  Args args;
  MatrixView whole, compacted;
  DROPGEMM_RETURN_IF_ERROR(to_matrix("x", x, &whole));
  DROPGEMM_RETURN_IF_ERROR(to_stacked("xc", xc, &compacted));
  DROPGEMM_RETURN_IF_ERROR(to_mask("mask", bits, attrs.mask, 1.0, &args.mask));
  args.x = whole;
  args.xc = compacted;
  args.axis = static_cast<CompactAxis>(attrs.axis);
  Context context;
  DROPGEMM_RETURN_IF_ERROR(place.enter(&context));
  return run(context, args);
}

ffi::Error gather(ffi::AnyBuffer x, ffi::AnyBuffer bits, CompactAttrs attrs, Result xc,
                  Place place) {
  return to_error(move<CompactArgs>(x, *xc, bits, attrs, place, compact));
}

ffi::Error scatter(ffi::AnyBuffer xc, ffi::AnyBuffer bits, CompactAttrs attrs, Result x,
                   Place place) {
  return to_error(move<ExpandArgs>(*x, xc, bits, attrs, place, expand));
}

// Of either: what is moved, bits; what becomes of it.
auto binding() {
  return ffi::Ffi::Bind()
      .Arg<ffi::AnyBuffer>()
      .Arg<ffi::AnyBuffer>()
      .Attrs<CompactAttrs>()
      .Ret<ffi::AnyBuffer>();
}

XLA_FFI_DEFINE_HANDLER(compact_on_cpu, gather, on<OnCpu>(binding()));
XLA_FFI_DEFINE_HANDLER(compact_on_cuda, gather, on<OnCuda>(binding()), {kCapturable});
XLA_FFI_DEFINE_HANDLER(expand_on_cpu, scatter, on<OnCpu>(binding()));
XLA_FFI_DEFINE_HANDLER(expand_on_cuda, scatter, on<OnCuda>(binding()), {kCapturable});

}  // namespace

const Target kCompact = {"compact", compact_on_cpu, compact_on_cuda};
const Target kExpand = {"expand", expand_on_cpu, expand_on_cuda};

}  // namespace dropgemm::python
