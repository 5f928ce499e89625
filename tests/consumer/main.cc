// A C++ program that uses the installed library: a block-wise gyro mask, and a forward product
// whose dropped output tiles it checks.
#include <dropgemm/gemm.h>
#include <dropgemm/mask.h>

#include <cstdio>
#include <vector>

int main() {
  constexpr std::int64_t kBatch = 256, kFeatures = 512, kTileRows = 128, kTileCols = 32;
  std::vector<std::uint32_t> bits(dropgemm::mask_words(kBatch, kFeatures, kTileRows, kTileCols));
  dropgemm::GyroMaskArgs gyro;
  gyro.mask = {bits.data(), kBatch, kFeatures, kTileRows, kTileCols};
  gyro.schedule.total_steps = 1000;
  gyro.schedule.tile_rows = kTileRows;
  gyro.draw = dropgemm::Draw::kExact;
  const dropgemm::Context ctx;  // the default backend
  dropgemm::Status status = dropgemm::gyro_mask(ctx, gyro);

  const std::vector<float> x(kBatch * kFeatures, 1.0F), w(kFeatures * kFeatures, 1.0F);
  std::vector<float> y(kBatch * kFeatures, -1.0F);
  const dropgemm::TileMaskView mask{bits.data(), kBatch, kFeatures, kTileRows, kTileCols, 0.5};
  dropgemm::GemmArgs args;
  args.a = dropgemm::matrix_view(x.data(), kBatch, kFeatures);
  args.b = dropgemm::matrix_view(w.data(), kFeatures, kFeatures);
  args.d = dropgemm::matrix_view(y.data(), kBatch, kFeatures);
  args.trans_b = true;
  args.a_mask = args.d_mask = &mask;
  dropgemm::GemmPlan plan;
  if (status.ok()) status = dropgemm::gemm_plan(ctx, args, &plan);
  if (status.ok()) status = dropgemm::gemm(ctx, args);
  if (!status.ok()) {
    std::fprintf(stderr, "consumer: %s\n", status.message().c_str());
    return 1;
  }

  // Ones times ones: a kept element is the number of kept inputs, 8 of 16 tiles of 32.
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < kBatch * kFeatures; ++i) {
    const bool kept = dropgemm::element_kept(mask, i / kFeatures, i % kFeatures);
    wrong += y[i] == (kept ? 256.0F : 0.0F) ? 0 : 1;
  }
  std::printf("%s, wrong elements: %lld\n", dropgemm::to_string(plan).c_str(),
              static_cast<long long>(wrong));
  return wrong == 0 ? 0 : 1;
}
