// What only a GPU can show: streams, graphs that are captured and replayed, a device that is not
// the current one. Skipped where there is none; the suites of tests/cpp cover the results.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "device_cuda.h"
#include "dropgemm/gemm.h"
#include "dropgemm/mask.h"
#include "dropgemm/sgd.h"

namespace dropgemm::testing {
namespace {

constexpr std::int64_t kRows = 256, kCols = 512;
constexpr std::size_t kWords = 2 * 16;  // of its mask, tiles of 128 x 1

template <class T>
class OnDevice {
 public:
  explicit OnDevice(std::size_t count) : count_(count) {
    EXPECT_EQ(cudaMalloc(&data_, count * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemset(data_, 0xFF, count * sizeof(T)), cudaSuccess);
  }
  explicit OnDevice(const std::vector<T>& values) : OnDevice(values.size()) { set(values); }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  void set(const std::vector<T>& values) {
    EXPECT_EQ(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyDefault), cudaSuccess);
  }
  [[nodiscard]] std::vector<T> values() const {
    std::vector<T> host(count_);
    EXPECT_EQ(cudaMemcpy(host.data(), data_, count_ * sizeof(T), cudaMemcpyDefault), cudaSuccess);
    return host;
  }
  [[nodiscard]] T* data() const { return static_cast<T*>(data_); }

 private:
  void* data_ = nullptr;
  std::size_t count_;
};

class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ctx_.backend = CudaDevice::backend();
    if (ctx_.backend == nullptr) GTEST_SKIP() << "no GPU";
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ctx_.stream = stream_;
  }
  void TearDown() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  static GyroMaskArgs mask_of(std::uint32_t* bits) {
    GyroMaskArgs args;
    args.mask = {bits, kRows, kCols, 128, 1};
    args.schedule.total_steps = 100;
    args.schedule.tile_rows = 128;
    args.draw = Draw::kExact;
    return args;
  }
  static std::vector<std::uint32_t> expected(std::int64_t step) {
    std::vector<std::uint32_t> bits(kWords);
    GyroMaskArgs args = mask_of(bits.data());
    args.step.value = step;
    Context cpu;
    EXPECT_TRUE(find_backend("cpu", &cpu.backend).ok());
    EXPECT_TRUE(gyro_mask(cpu, args).ok());
    return bits;
  }

  Context ctx_;
  cudaStream_t stream_ = nullptr;
};

TEST_F(DeviceTest, CallsAreQueuedOnTheCallersStream) {
  const OnDevice<std::uint32_t> bits(kWords);
  GyroMaskArgs args = mask_of(bits.data());
  args.step.value = 5;
  ASSERT_TRUE(gyro_mask(ctx_, args).ok());
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(bits.values(), expected(5));
}

// A step's mask and product, replayed with another step in the same memory.
TEST_F(DeviceTest, AGraphReplaysWithTheStepOfTheMoment) {
  const OnDevice<std::uint32_t> bits(kWords);
  OnDevice<std::int64_t> step(std::vector<std::int64_t>{0});
  const OnDevice<float> x(std::vector<float>(kRows * kCols, 1.0F));
  const OnDevice<float> w(std::vector<float>(kCols * kCols, 1.0F)), y(kRows * kCols);
  GyroMaskArgs args = mask_of(bits.data());
  args.step.device = step.data();
  const TileMaskView mask = {bits.data(), kRows, kCols, 128, 1, 0.5, false};
  GemmArgs product;
  product.a = matrix_view(static_cast<const float*>(x.data()), kRows, kCols);
  product.b = matrix_view(static_cast<const float*>(w.data()), kCols, kCols);
  product.d = matrix_view(y.data(), kRows, kCols);
  product.a_mask = product.d_mask = &mask;

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess);
  const Status drawn = gyro_mask(ctx_, args), multiplied = gemm(ctx_, product);
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  ASSERT_TRUE(drawn.ok()) << drawn.message();
  ASSERT_TRUE(multiplied.ok()) << multiplied.message();
  ASSERT_EQ(cudaGraphInstantiate(&replay, graph, 0), cudaSuccess);
  for (const std::int64_t at : {3, 40}) {
    step.set({at});
    ASSERT_EQ(cudaGraphLaunch(replay, stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    ASSERT_EQ(bits.values(), expected(at));
    const std::vector<float> got = y.values();
    for (std::int64_t i = 0; i < kRows; i += 17) {
      for (std::int64_t j = 0; j < kCols; ++j) {
        const auto bit = expected(at)[static_cast<std::size_t>(i / 128 * 16 + j / 32)] >> j % 32;
        const float sum = (bit & 1U) != 0 ? 256.0F : 0.0F;  // exact draws keep half of the columns
        ASSERT_EQ(got[static_cast<std::size_t>(i * kCols + j)], sum) << i << ", " << j;
      }
    }
  }
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
}

TEST_F(DeviceTest, OperandsOfAnotherDeviceTakeTheCallThere) {
  int count = 0;
  ASSERT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  if (count < 2) GTEST_SKIP() << "one device";
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  const OnDevice<std::uint32_t> bits(kWords);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  Context ctx = ctx_;
  ctx.stream = nullptr;
  ASSERT_TRUE(gyro_mask(ctx, mask_of(bits.data())).ok());
  int current = -1;
  ASSERT_EQ(cudaGetDevice(&current), cudaSuccess);
  EXPECT_EQ(current, 0);
  EXPECT_EQ(bits.values(), expected(0));

  const OnDevice<float> w(4);
  SgdArgs args;
  args.w = w.data();
  args.g = bits.data();
  args.size = 4;
  EXPECT_EQ(sgd(ctx, args).message(),
            "g: expected memory of device 0 as w has, got memory of device 1");
}

TEST_F(DeviceTest, MemoryOfTheHostIsRefusedByName) {
  std::vector<std::uint32_t> bits(kWords);
  EXPECT_EQ(gyro_mask(ctx_, mask_of(bits.data())).message(),
            "mask: expected memory of a CUDA device, got memory of the host");
}

}  // namespace
}  // namespace dropgemm::testing
