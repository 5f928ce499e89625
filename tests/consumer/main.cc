#include <dropgemm/gemm.h>
#include <dropgemm/mask.h>

#include <cstdio>
#include <numeric>
#include <vector>

int main() {
  using namespace dropgemm;
  const std::int64_t batch = 256, features = 512, rows = 128, cols = 32;
  std::vector<std::uint32_t> bits(mask_words(batch, features, rows, cols));
  GyroMaskArgs gyro;  // block-wise: 128 rows share a subnet of 32-wide blocks
  gyro.mask = {bits.data(), batch, features, rows, cols};
  gyro.schedule.total_steps = 1000;
  gyro.schedule.tile_rows = rows;
  gyro.draw = Draw::kExact;
  Status status = gyro_mask({}, gyro);

  const std::vector<float> x(batch * features, 1.0F), w(features * features, 1.0F);
  std::vector<float> y(batch * features);
  const TileMaskView mask{bits.data(), batch, features, rows, cols, /*keep_hint=*/0.5};
  GemmArgs args;  // Y = X W^T, pruned on both sides
  args.a = matrix_view(x.data(), batch, features);
  args.b = matrix_view(w.data(), features, features);
  args.d = matrix_view(y.data(), batch, features);
  args.trans_b = true;
  args.a_mask = args.d_mask = &mask;
  if (status.ok()) status = gemm({}, args);
  const double sum = std::accumulate(y.begin(), y.end(), 0.0);  // half of y, each 256 kept inputs
  std::printf("%s, sum %.0f\n", status.ok() ? "ok" : status.message().c_str(), sum);
  return status.ok() && sum == batch * features / 2 * 256 ? 0 : 1;
}
