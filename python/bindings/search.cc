// The search for a distribution of periods (dropgemm/search.h) for Python.
#include "dropgemm/search.h"

#include <string>
#include <tuple>
#include <vector>

#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "array.h"
#include "module.h"

namespace dropgemm::python {

namespace {

using Numbers = std::vector<double>;
using Found = std::tuple<Numbers, std::int64_t, Numbers, Numbers, Numbers, std::string>;

Found search(double p, std::int64_t max_period, std::int32_t method, bool anneal, double lambda1,
             double lambda2, double threshold, double tolerance, std::int64_t max_iterations) {
  SearchArgs args;
  args.p = p;
  args.max_period = max_period;
  args.method = static_cast<SearchMethod>(method);
  args.anneal = anneal;
  args.lambda1 = lambda1;
  args.lambda2 = lambda2;
  args.threshold = threshold;
  args.tolerance = tolerance;
  args.max_iterations = max_iterations;
  const bool is_legal = max_period >= 1 && max_period <= kMaxSearchPeriod;
  Numbers probabilities(is_legal ? static_cast<std::size_t>(max_period) : 0);
  SearchResult result;
  Status status;
  {
    nb::gil_scoped_release released;
    status = search_distribution(args, probabilities.data(), &result);
  }
  // A descent that fell short is a result too, of which Python warns.
  if (result.history.empty()) raise_if_error(status);
  Numbers losses, rates, weights;
  for (const SearchPoint& point : result.history) {
    losses.push_back(point.loss);
    rates.push_back(point.rate);
    weights.push_back(point.lambda2);
  }
  return {probabilities, result.iterations, losses, rates, weights, status.message()};
}

}  // namespace

void bind_search(nb::module_& module) {
  module.def(
      "default_max_period",
      [](double p, std::int64_t features) {
        std::int64_t max_period = 0;
        raise_if_error(default_max_period(p, features, &max_period));
        return max_period;
      },
      nb::arg("p"), nb::arg("features"),
      "The largest period where none is asked for; features 0: any number of them.");
  module.def("search_distribution", search, nb::arg("p"), nb::arg("max_period"), nb::arg("method"),
             nb::arg("anneal"), nb::arg("lambda1"), nb::arg("lambda2"), nb::arg("threshold"),
             nb::arg("tolerance"), nb::arg("max_iterations"),
             "(probabilities, iterations, losses, rates, lambda2s, what fell short or \"\").");
}

}  // namespace dropgemm::python
