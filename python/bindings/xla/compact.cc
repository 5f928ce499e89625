// Compaction (dropgemm/compact.h) of buffers.
#include "dropgemm/compact.h"

#include "buffers.h"
#include "targets.h"

namespace dropgemm::python {

struct CompactAttrs {
  Layout mask;  // as to_mask() takes it
  std::int64_t axis = 0;
};

namespace {

// The same of either direction: x [rows, cols] and its mask, xc the compact side.
template <class Args>
Status move(const ffi::AnyBuffer& x, const ffi::AnyBuffer& xc, const ffi::AnyBuffer& bits,
            const CompactAttrs& attrs, Status (*run)(const Context&, const Args&)) {
  Args args;
  MatrixView whole, compacted;
  DROPGEMM_RETURN_IF_ERROR(to_matrix("x", x, &whole));
  DROPGEMM_RETURN_IF_ERROR(to_stacked("xc", xc, &compacted));
  DROPGEMM_RETURN_IF_ERROR(to_mask("mask", bits, attrs.mask, 1.0, &args.mask));
  args.x = whole;
  args.xc = compacted;
  args.axis = static_cast<CompactAxis>(attrs.axis);
  return run(Context{}, args);
}

ffi::Error gather(ffi::AnyBuffer x, ffi::AnyBuffer bits, CompactAttrs attrs, Result xc) {
  return to_error(move<CompactArgs>(x, *xc, bits, attrs, compact));
}

ffi::Error scatter(ffi::AnyBuffer xc, ffi::AnyBuffer bits, CompactAttrs attrs, Result x) {
  return to_error(move<ExpandArgs>(*x, xc, bits, attrs, expand));
}

}  // namespace

}  // namespace dropgemm::python

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(dropgemm::python::CompactAttrs,
                                      xla::ffi::StructMember<dropgemm::python::Layout>("mask"),
                                      xla::ffi::StructMember<std::int64_t>("axis"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(dropgemm_compact, dropgemm::python::gather,
                              xla::ffi::Ffi::Bind()
                                  .Arg<xla::ffi::AnyBuffer>()  // x
                                  .Arg<xla::ffi::AnyBuffer>()  // bits
                                  .Attrs<dropgemm::python::CompactAttrs>()
                                  .Ret<xla::ffi::AnyBuffer>());  // xc

XLA_FFI_DEFINE_HANDLER_SYMBOL(dropgemm_expand, dropgemm::python::scatter,
                              xla::ffi::Ffi::Bind()
                                  .Arg<xla::ffi::AnyBuffer>()  // xc
                                  .Arg<xla::ffi::AnyBuffer>()  // bits
                                  .Attrs<dropgemm::python::CompactAttrs>()
                                  .Ret<xla::ffi::AnyBuffer>());  // x
