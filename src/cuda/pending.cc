// What is not made yet says so by name.
#include "cuda/pending.h"

#include "registry.h"

namespace dropgemm::cuda {
namespace {

std::int32_t refuse(const char* what, ErrorText error) {
  return report({StatusCode::kUnsupported, std::string("cuda: ") + what + " is not made yet"},
                error);
}

}  // namespace

std::int32_t gather(const Context*, const CompactArgs*, ErrorText error) {
  return refuse("compact", error);
}
std::int32_t scatter(const Context*, const ExpandArgs*, ErrorText error) {
  return refuse("expand", error);
}
std::int32_t sgd(const Context*, const SgdArgs*, ErrorText error) { return refuse("sgd", error); }

}  // namespace dropgemm::cuda
