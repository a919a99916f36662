#include "detect/fit.h"

#include <atomic>
#include <cmath>
#include <memory>
#include <random>
#include <stdexcept>

#include "base/parallel.h"
#include "testing.h"

TEST_SUITE_BEGIN("fit");

namespace yolotf {
namespace {

// Random values in heap memory of exactly their size.
template <typename Value>
std::unique_ptr<Value[]> noise(std::int64_t count, int seed) {
  std::mt19937 random(static_cast<unsigned>(seed));
  std::unique_ptr<Value[]> values(new Value[static_cast<std::size_t>(count)]);
  for (std::int64_t i = 0; i < count; ++i) {
    const double share = static_cast<double>(random()) / 4294967295.0;
    values[static_cast<std::size_t>(i)] =
        static_cast<Value>(std::is_same_v<Value, float> ? share : 255 * share);
  }
  return values;
}

// Returns one value of resize_image (image.c:1399), computed in doubles.
template <typename Value>
double slowly(const Value* pixels, const Image& image, std::int64_t channels, std::int64_t row,
              std::int64_t column, std::int64_t channel) {
  const auto position = [](std::int64_t i, std::int64_t from, std::int64_t to) {
    return to > 1 ? static_cast<double>(i * (from - 1)) / static_cast<double>(to - 1) : 0.0;
  };
  const double y = position(row, image.height, image.inner_height);
  const double x = position(column, image.width, image.inner_width);
  const auto at = [&](std::int64_t r, std::int64_t c) {
    const std::int64_t inside =
        std::min(r, image.height - 1) * image.width + std::min(c, image.width - 1);
    return static_cast<double>(pixels[inside * channels + channel]);
  };
  const auto top = static_cast<std::int64_t>(y);
  const auto left = static_cast<std::int64_t>(x);
  const double down = y - static_cast<double>(top);
  const double right = x - static_cast<double>(left);
  const double value = (1 - down) * ((1 - right) * at(top, left) + right * at(top, left + 1)) +
                       down * ((1 - right) * at(top + 1, left) + right * at(top + 1, left + 1));
  return image.is_uint8 ? value / 255 : value;
}

template <typename Value>
void compare(std::int64_t height, std::int64_t width, std::int64_t inner_height,
             std::int64_t inner_width, std::int64_t channels) {
  constexpr std::int64_t kHeight = 40;
  constexpr std::int64_t kWidth = 60;
  const auto pixels = noise<Value>(height * width * channels, 5);
  Image image;
  image.pixels = pixels.get();
  image.is_uint8 = !std::is_same_v<Value, float>;
  image.height = height;
  image.width = width;
  image.inner_height = inner_height;
  image.inner_width = inner_width;
  const std::int64_t floats = kHeight * kWidth * channels;
  std::unique_ptr<float[]> out(new float[static_cast<std::size_t>(2 * floats)]);
  fit({image, image}, kHeight, kWidth, channels, out.get(), 3);
  const std::int64_t top = (kHeight - inner_height) / 2;
  const std::int64_t left = (kWidth - inner_width) / 2;
  for (std::int64_t i = 0; i < 2 * floats; ++i) {
    const std::int64_t row = i % floats / (kWidth * channels) - top;
    const std::int64_t column = i / channels % kWidth - left;
    const bool inside = row >= 0 && row < inner_height && column >= 0 && column < inner_width;
    const double expected =
        inside ? slowly(pixels.get(), image, channels, row, column, i % channels) : 0.5;
    REQUIRE(std::fabs(static_cast<double>(out[static_cast<std::size_t>(i)]) - expected) <
            1e-4);  // positions are float32
  }
}

TEST_CASE("images are resized as by a plain loop") {
  for (const std::int64_t channels : {1, 3, 5}) {
    compare<std::uint8_t>(40, 60, 40, 60, channels);
    compare<std::uint8_t>(7, 9, 40, 60, channels);
    compare<std::uint8_t>(1, 1, 40, 40, channels);
    compare<float>(301, 202, 40, 27, channels);
    compare<float>(3, 500, 1, 60, channels);
    compare<std::uint8_t>(500, 3, 40, 1, channels);
  }
}

TEST_CASE("the floats of inputs are counted without overflow") {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  CHECK(input_floats(2, 3, 5, 7) == 210);
  CHECK(input_floats(0, 3, 5, 7) == 0);
  CHECK(input_floats(1, std::int64_t{1} << 30, std::int64_t{1} << 30, 1) == std::int64_t{1} << 60);
  CHECK(input_floats(1, std::int64_t{1} << 30, std::int64_t{1} << 30, 2) == -1);
  CHECK(input_floats(1, std::int64_t{1} << 32, 1, std::int64_t{1} << 32) == -1);  // 0 in 64 bits
  CHECK(input_floats(kMost, kMost, kMost, kMost) == -1);
  CHECK(input_floats(1, -3, -5, 7) == -1);
}

TEST_CASE("run_tasks runs every task once and rethrows") {
  for (const int threads : {1, 2, 7}) {
    std::vector<std::atomic<int>> runs(100);
    run_tasks(runs.size(), threads, [&](std::size_t i) { ++runs[i]; });
    for (const std::atomic<int>& count : runs) {
      REQUIRE(count == 1);
    }
    bool caught = false;
    try {
      run_tasks(runs.size(), threads, [&](std::size_t i) {
        if (i == 37) {
          throw std::runtime_error("37");
        }
      });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    REQUIRE(caught);
  }
}

}  // namespace
}  // namespace yolotf

TEST_SUITE_END();
