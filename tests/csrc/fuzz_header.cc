// libFuzzer: whatever the bytes and the plan, there is an error or a scatter within bounds.
#include "weights.h"

extern "C" int LLVMFuzzerTestOneInput(const std::byte* bytes, std::size_t size) {
  yolotf::Header header;
  yolotf::Error error;
  std::int64_t row[yolotf::kPlanColumns] = {};
  for (std::size_t i = 0; i < std::size(row) && i < size; ++i) {
    row[i] = static_cast<std::int64_t>(bytes[size - 1 - i]);
  }
  const auto plan = yolotf::segments_from_rows(row, 1);
  if (yolotf::parse_header(bytes, size, size, -1, &header, &error) &&
      yolotf::check_segments(plan, header.size_bytes, -1, size, &error)) {
    std::vector<float> out(plan[0].count());
    yolotf::check_variance(bytes, plan[0], 0, &error);
    yolotf::scatter(bytes, plan[0], {yolotf::Dtype::kFloat32, true, 0, {}, out.data()},
                    yolotf::split(plan)[0]);
  }
  return 0;
}
