// libFuzzer: images of any size, resized into inputs of any size. Every float must be written, lie
// in 0..1, and be the same on several threads.
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
  // Any numbers, as from Python, are rejected or multiplied without overflow.
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
  std::vector<Image> images;
  for (std::int64_t i = 0; i < count; ++i) {
    Image image;
    image.is_uint8 = input.flag();
    image.height = 1 + input.below(90);
    image.width = 1 + input.below(90);
    image.inner_height = 1 + input.below(height);
    image.inner_width = 1 + input.below(width);
    // Of exactly their size, so that the sanitizers notice reads past the end.
    const auto numbers = static_cast<std::size_t>(image.height * image.width * channels);
    bytes.emplace_back(image.is_uint8 ? numbers : 0);
    floats.emplace_back(image.is_uint8 ? 0 : numbers);
    for (std::uint8_t& number : bytes.back()) {
      number = input.size() > 0 ? input.byte() : 200;
    }
    for (float& number : floats.back()) {
      number = static_cast<float>(input.size() > 0 ? input.byte() : 200) / 255.0F;
    }
    images.push_back(image);
  }
  for (std::size_t i = 0; i < images.size(); ++i) {
    images[i].pixels = images[i].is_uint8 ? static_cast<const void*>(bytes[i].data())
                                          : static_cast<const void*>(floats[i].data());
  }
  const auto out_floats = static_cast<std::size_t>(count * height * width * channels);
  std::vector<float> alone(out_floats, NAN);
  std::vector<float> together(out_floats, NAN);
  fit(images, height, width, channels, alone.data(), 1, resize);
  fit(images, height, width, channels, together.data(), 3, resize);
  expect(std::all_of(alone.begin(), alone.end(),
                     [](float number) { return number >= 0.0F && number <= 1.0001F; }));
  expect(std::equal(alone.begin(), alone.end(), together.begin()));
  return 0;
}
