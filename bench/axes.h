// The axes of a benchmark program: flags --name=value,value, each with its legal values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace dropgemm::bench {

// Axes are asked for one by one, which says what a flag of their name may hold; then finish() says
// whether the command line held anything else.
//
//   Axes axes("The mask generators.", argc, argv);
//   const auto batch = axes.integers("batch", {128, 1024}, 1);
//   if (const auto status = axes.finish()) return *status;
class Axes {
 public:
  // Takes the benchmark library's own flags (--benchmark_...) out of the command line; a
  // --benchmark_out that would overwrite a file is an error of finish().
  Axes(std::string about, int argc, char** argv);

  // Whole numbers from `least` on.
  std::vector<std::int64_t> integers(const std::string& name, std::vector<std::int64_t> defaults,
                                     std::int64_t least, const std::string& meaning = "");
  // The axis "threads": whole numbers from `least` (0: all there are) to the processors there are.
  std::vector<std::int64_t> threads(std::vector<std::int64_t> defaults, std::int64_t least = 0);
  // Rates from 0 to 1.
  std::vector<double> rates(const std::string& name, std::vector<double> defaults,
                            const std::string& meaning = "");
  // Some of the legal words.
  std::vector<std::string> words(const std::string& name, std::vector<std::string> defaults,
                                 const std::vector<std::string>& legal,
                                 const std::string& meaning = "");

  // Nothing where all is well; else what was wrong or asked for has been printed, and this is the
  // exit status: 0 for --help, else 2; the legal axes and values are listed.
  [[nodiscard]] std::optional<int> finish() const;

 private:
  struct Legal {
    std::string name, values, defaults, meaning;
  };

  std::vector<std::int64_t> numbers(const std::string& name, std::vector<std::int64_t> defaults,
                                    std::int64_t least, std::int64_t most,
                                    const std::string& meaning);
  std::optional<std::vector<std::string>> given(const std::string& name);
  void refuse(const std::string& name, const std::string& legal, const std::string& got);

  std::string about_;
  bool help_ = false;
  std::map<std::string, std::string> flags_;  // not asked for yet
  std::vector<Legal> axes_;
  std::vector<std::string> errors_;
};

// As a flag holds it: "128"; "0.25", with no more digits than it takes; the word itself.
[[nodiscard]] std::string text(std::int64_t value);
[[nodiscard]] std::string text(double value);
[[nodiscard]] const std::string& text(const std::string& value);

}  // namespace dropgemm::bench
