// libFuzzer: pictures of any size into inputs of any size. Every number is written, lies between
// the picture's, and is the same on several threads.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <vector>

#include "detect/fit.h"
#include "fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace yolotf;
  FuzzInput input(data, size);
  // Any numbers, as Python may pass them: they are refused, or the product is right.
  __extension__ using Wide = __int128;
  const std::int64_t extents[] = {input.number(), input.number(), input.number(), input.number()};
  const auto all_below = [&](std::int64_t limit) {
    return std::all_of(std::begin(extents), std::end(extents),
                       [=](std::int64_t extent) { return extent >= 0 && extent < limit; });
  };
  const std::int64_t counted = input_floats(extents[0], extents[1], extents[2], extents[3]);
  expect(counted >= -1 && (counted >= 0 || !all_below(1 << 15)));
  if (counted >= 0) {
    expect(all_below(std::numeric_limits<std::int64_t>::max()));
    expect(Wide{extents[0]} * extents[1] * extents[2] * extents[3] == counted);
  }
  const std::int64_t height = 1 + input.below(40);
  const std::int64_t width = 1 + input.below(40);
  const std::int64_t channels = 1 + input.below(4);
  const std::int64_t count = 1 + input.below(2);
  const auto resize = static_cast<Resize>(input.below(3));
  std::vector<std::vector<std::uint8_t>> bytes;
  std::vector<std::vector<float>> floats;
  std::vector<Picture> pictures;
  for (std::int64_t i = 0; i < count; ++i) {
    Picture picture;
    picture.bytes = input.flag();
    picture.height = 1 + input.below(90);
    picture.width = 1 + input.below(90);
    picture.inner_height = 1 + input.below(height);
    picture.inner_width = 1 + input.below(width);
    // Of their own size, so that the sanitizers see what is read behind them.
    const auto numbers = static_cast<std::size_t>(picture.height * picture.width * channels);
    bytes.emplace_back(picture.bytes ? numbers : 0);
    floats.emplace_back(picture.bytes ? 0 : numbers);
    for (std::uint8_t& number : bytes.back()) {
      number = input.size() > 0 ? input.byte() : 200;
    }
    for (float& number : floats.back()) {
      number = static_cast<float>(input.size() > 0 ? input.byte() : 200) / 255.0F;
    }
    pictures.push_back(picture);
  }
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    pictures[i].pixels = pictures[i].bytes ? static_cast<const void*>(bytes[i].data())
                                           : static_cast<const void*>(floats[i].data());
  }
  const auto written = static_cast<std::size_t>(count * height * width * channels);
  std::vector<float> alone(written, NAN);
  std::vector<float> together(written, NAN);
  fit(pictures, height, width, channels, alone.data(), 1, resize);
  fit(pictures, height, width, channels, together.data(), 3, resize);
  expect(std::all_of(alone.begin(), alone.end(),
                     [](float number) { return number >= 0.0F && number <= 1.0001F; }));
  expect(std::equal(alone.begin(), alone.end(), together.begin()));
  return 0;
}
