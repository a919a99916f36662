#include "weights/statistics.h"

#include <cmath>
#include <random>

#include "folder.h"
#include "testing.h"

TEST_SUITE_BEGIN("statistics");

namespace yolotf {
namespace {

TEST_CASE("statistics are those of a plain loop") {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.1F, 2.0F);
  const std::vector<float> odd = {kInfinity,
                                  -kInfinity,
                                  kNan,
                                  0.0F,
                                  -0.0F,
                                  std::numeric_limits<float>::max(),
                                  std::numeric_limits<float>::lowest(),
                                  std::numeric_limits<float>::denorm_min()};
  for (const std::uint64_t size : {0U, 1U, 2U, 7U, 8U, 9U, 1023U, 1024U, 1025U, 5000U}) {
    for (const int kind : {0, 1, 2}) {  // normal numbers only, mixed, special numbers only
      std::vector<float> floats(size);
      for (float& value : floats) {
        const bool plain = kind == 0 || (kind == 1 && random() % 4 != 0);
        value = plain ? normal(random) : odd[random() % odd.size()];
      }
      Stats expected;
      expected.minimum = std::numeric_limits<double>::infinity();
      expected.maximum = -expected.minimum;
      for (const float value : floats) {
        ++expected.count;
        expected.negative += value < 0 ? 1 : 0;
        expected.zero += value == 0 ? 1 : 0;
        if (!std::isfinite(value)) {
          ++expected.nonfinite;
          continue;
        }
        expected.minimum = std::min(expected.minimum, static_cast<double>(value));
        expected.maximum = std::max(expected.maximum, static_cast<double>(value));
        expected.sum += value;
        expected.sum_of_squares += static_cast<double>(value) * value;
      }
      for (const std::uint64_t cut : {std::uint64_t{0}, size / 3, size}) {
        const Bytes bytes(floats.data(), 4 * size, 1);  // not aligned
        Stats stats;
        add_stats(bytes.data(), cut, &stats);
        add_stats(bytes.data() + 4 * cut, size - cut, &stats);
        REQUIRE(stats.count == expected.count);
        REQUIRE(stats.nonfinite == expected.nonfinite);
        REQUIRE(stats.negative == expected.negative);
        REQUIRE(stats.zero == expected.zero);
        if (stats.count > stats.nonfinite) {
          REQUIRE(stats.minimum == expected.minimum);
          REQUIRE(stats.maximum == expected.maximum);
        }
        const auto close = [&](double a, double b, double scale) {
          return std::fabs(a - b) <= 1e-12 * scale;
        };
        REQUIRE(close(stats.sum_of_squares, expected.sum_of_squares, expected.sum_of_squares));
        const double magnitudes =
            std::sqrt(expected.sum_of_squares * static_cast<double>(size)) + 1;
        REQUIRE(close(stats.sum, expected.sum, magnitudes));
      }
    }
  }
}

TEST_CASE("non-finite numbers do not count in minimum and maximum") {
  const float floats[] = {kNan, kInfinity, 5.0F, -kInfinity, 7.0F};
  const Bytes bytes(floats, sizeof floats);
  Stats stats;
  add_stats(bytes.data(), 2, &stats);
  CHECK(stats.count == 2);
  CHECK(stats.nonfinite == 2);
  add_stats(bytes.data() + 8, 2, &stats);
  CHECK(stats.minimum == 5.0);
  CHECK(stats.maximum == 5.0);
  add_stats(bytes.data() + 16, 1, &stats);
  CHECK(stats.minimum == 5.0);
  CHECK(stats.maximum == 7.0);
  CHECK(stats.sum == 12.0);
  CHECK(stats.count == 5);
  CHECK(stats.nonfinite == 3);
  CHECK(stats.negative == 1);
}

bool equal(const Stats& a, const Stats& b) {
  return a.count == b.count && a.nonfinite == b.nonfinite && a.negative == b.negative &&
         a.zero == b.zero && a.minimum == b.minimum && a.maximum == b.maximum && a.sum == b.sum &&
         a.sum_of_squares == b.sum_of_squares;
}

TEST_CASE("runs of a file are scanned to its end, the same on any number of threads") {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.1F, 2.0F);
  std::vector<float> floats(300000);
  for (float& value : floats) {
    value = normal(random);
  }
  Folder folder;
  MappedFile file;
  FileError error;
  const std::string bytes(reinterpret_cast<const char*>(floats.data()), 4 * floats.size());
  REQUIRE(file.open(folder.file(bytes + "xyz").c_str(), &error));
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  const std::vector<FloatRun> runs = {{0, 300000}, {0, kMost},   {4000, 200000}, {40, 7},
                                      {40, 0},     {1199996, 5}, {1200000, 5},   {kMost, kMost}};
  const std::vector<std::uint64_t> counts = {300000, 300000, 200000, 7, 0, 1, 0, 0};
  std::vector<Stats> alone;
  REQUIRE(scan_runs(file, runs, 1, &alone, &error));
  REQUIRE(alone.size() == runs.size());
  for (std::size_t i = 0; i < runs.size(); ++i) {
    CAPTURE(i);
    REQUIRE(alone[i].count == counts[i]);
    Stats expected;
    for (std::uint64_t done = 0; done < counts[i]; done += 65536) {
      add_stats(reinterpret_cast<const std::byte*>(floats.data()) + runs[i].offset + 4 * done,
                std::min<std::uint64_t>(65536, counts[i] - done), &expected);
    }
    REQUIRE(alone[i].negative == expected.negative);
    REQUIRE(alone[i].minimum == expected.minimum);
    REQUIRE(alone[i].maximum == expected.maximum);
    REQUIRE(alone[i].sum == doctest::Approx(expected.sum).epsilon(1e-12));
    REQUIRE(alone[i].sum_of_squares == doctest::Approx(expected.sum_of_squares).epsilon(1e-12));
  }
  for (const int threads : {2, 5}) {
    std::vector<Stats> together;
    REQUIRE(scan_runs(file, runs, threads, &together, &error));
    REQUIRE(std::equal(alone.begin(), alone.end(), together.begin(), together.end(), equal));
  }
}

TEST_CASE("a file that is not open has no floats") {
  const MappedFile file;
  std::vector<Stats> stats;
  FileError error;
  REQUIRE(scan_runs(file, {{0, 5}}, 2, &stats, &error));
  REQUIRE(stats.size() == 1);
  CHECK(stats[0].count == 0);
}

}  // namespace
}  // namespace yolotf

TEST_SUITE_END();
