// The Python module yolotf._core: the format, the checks and the scatter, without TensorFlow.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "mapped_file.h"
#include "weights.h"

namespace py = pybind11;

void bind_decode(py::module_& module);  // decode_module.cc

namespace yolotf {
namespace {

using Int64Array = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

// By value of Code.
constexpr std::array<const char*, 11> kCodeNames = {
    "ok",         "header_too_short", "file_too_short", "wrong_size",    "bad_segment",
    "wrong_rank", "wrong_shape",      "wrong_dtype",    "uninitialized", "bad_variance",
    "shared"};
static_assert(kCodeNames.size() == static_cast<std::size_t>(Code::kShared) + 1);

py::object& native_error() {
  static py::object* type = new py::object();  // never destroyed: the interpreter goes first
  return *type;
}

[[noreturn]] void raise(const std::string& text, const char* code, const Error& error) {
  py::object exception = native_error()(text);
  exception.attr("code") = code;
  exception.attr("segment") = error.segment;
  exception.attr("axis") = error.axis;
  exception.attr("offset") = error.offset;
  exception.attr("expected") = error.expected;
  exception.attr("found") = error.found;
  PyErr_SetObject(native_error().ptr(), exception.ptr());
  throw py::error_already_set();
}

[[noreturn]] void raise(const Error& error) {
  raise(describe(error), kCodeNames[static_cast<std::size_t>(error.code)], error);
}

[[noreturn]] void raise(const FileError& error, const std::string& path) {
  if (error.code == FileCode::kChanged) {
    raise("the file was changed by another process while it was read", "changed", Error{});
  }
  const int code = error.system_error != 0 ? error.system_error : EINVAL;
  const std::string text = error.code == FileCode::kNotRegular && error.system_error == 0
                               ? "not a regular file"
                               : std::strerror(code);
  py::object exception = py::reinterpret_borrow<py::object>(PyExc_OSError)(
      code, text,
      py::str(
          PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<py::ssize_t>(path.size()))));
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw py::error_already_set();
}

std::string to_path(const py::object& path) {
  const auto encoded = py::module_::import("os").attr("fsencode")(path).cast<std::string>();
  if (encoded.find('\0') != std::string::npos) {
    throw py::value_error("embedded null byte");  // as Python's own open()
  }
  return encoded;
}

// Runs `work` on this thread and on others, one for each of `tasks` at most; returns how many.
template <typename Work>
int on_threads(int threads, std::size_t tasks, const Work& work) {
  std::vector<std::thread> helpers;
  for (int i = 1; i < threads && static_cast<std::size_t>(i) < tasks; ++i) {
    try {
      helpers.emplace_back(work);
    } catch (const std::system_error&) {  // no more to be had
      break;
    }
  }
  work();
  for (std::thread& helper : helpers) {
    helper.join();
  }
  return static_cast<int>(helpers.size()) + 1;
}

std::int64_t nanoseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() -
                                                              start)
      .count();
}

py::tuple read_header(const py::object& path_like, std::int64_t floats) {
  const std::string path = to_path(path_like);
  Header header;
  Error error;
  FileError file_error;
  MappedFile file;
  std::byte bytes[kWideHeaderBytes];
  std::uint64_t available = 0;
  if (!file.open(path.c_str(), &file_error) ||
      !file.read(0, sizeof bytes, bytes, &available, &file_error)) {
    raise(file_error, path);
  }
  if (!parse_header(bytes, available, file.size(), floats, &header, &error)) {
    raise(error);
  }
  return py::make_tuple(header.major, header.minor, header.revision, header.seen, header.size_bytes,
                        header.version_size_bytes, header.transposed, file.size());
}

std::vector<Segment> to_segments(const Int64Array& plan) {
  if (plan.ndim() != 2 || plan.shape(1) != kPlanColumns) {
    throw py::value_error("plan must have the shape (segments, " + std::to_string(kPlanColumns) +
                          ")");
  }
  return segments_from_rows(plan.data(), plan.shape(0));
}

Target to_target(py::array& array) {
  Target target;
  const std::string dtype = py::str(array.dtype());
  target.dtype = dtype == "float32"    ? Dtype::kFloat32
                 : dtype == "float16"  ? Dtype::kFloat16
                 : dtype == "bfloat16" ? Dtype::kBfloat16
                                       : Dtype::kOther;
  target.initialized = true;
  target.rank = static_cast<int>(array.ndim());
  for (int axis = 0; axis < std::min(target.rank, 8); ++axis) {
    target.shape[axis] = static_cast<std::uint64_t>(array.shape(axis));
  }
  constexpr int kNeeded = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((array.flags() & kNeeded) != kNeeded) {
    throw py::value_error("arrays must be contiguous and aligned");
  }
  target.data = array.mutable_data();  // raises if the array is read-only
  return target;
}

py::tuple scatter_arrays(const py::object& path_like, const py::bytes& header_bytes,
                         std::int64_t expected_bytes, const Int64Array& plan,
                         std::vector<py::array> arrays, bool cast, bool verify, int threads) {
  const std::string path = to_path(path_like);
  const std::string header = header_bytes;
  const std::vector<Segment> segments = to_segments(plan);
  if (segments.size() != arrays.size()) {
    throw py::value_error("plan and arrays must have the same length");
  }
  std::vector<Target> targets;
  targets.reserve(arrays.size());
  for (py::array& array : arrays) {
    targets.push_back(to_target(array));
  }
  Error error;
  FileError file_error;
  MappedFile file;
  bool file_sound = true;
  bool plan_sound = true;
  std::int64_t checked = 0;
  std::int64_t written = 0;
  {
    const py::gil_scoped_release release;
    const auto start = std::chrono::steady_clock::now();
    file_sound = file.open(path.c_str(), &file_error);
    plan_sound =
        file_sound && check_segments(segments, header.size(), expected_bytes, file.size(), &error);
    for (std::size_t i = 0; plan_sound && i < segments.size(); ++i) {
      plan_sound =
          check_target(segments[i], static_cast<std::int64_t>(i), targets[i], cast, &error);
    }
    file_sound = file_sound &&
                 (!plan_sound || (file.hold(&file_error) &&
                                  file.begins_with(header.data(), header.size(), &file_error)));
    for (std::size_t i = 0; verify && file_sound && plan_sound && i < segments.size(); ++i) {
      plan_sound = check_variance(file.bytes(), segments[i], static_cast<std::int64_t>(i), &error);
    }
    checked = nanoseconds_since(start);
    if (file_sound && plan_sound) {
      const std::vector<Task> tasks = split(segments);
      std::atomic<std::size_t> next{0};
      threads = on_threads(threads, tasks.size(), [&] {
        for (std::size_t i = next++; i < tasks.size(); i = next++) {
          const Task& task = tasks[i];
          scatter(file.bytes(), segments[task.segment], targets[task.segment], task);
        }
      });
      written = nanoseconds_since(start) - checked;
    }
  }
  if (!file_sound) {
    raise(file_error, path);
  }
  if (!plan_sound) {
    raise(error);
  }
  return py::make_tuple(file.mapped() ? 1 : 0, threads, checked, written);
}

// Runs may overlap; what lies past the end of the file is left out of the counts.
py::dict scan(const py::object& path_like, const Int64Array& offsets, const Int64Array& counts,
              int threads) {
  const std::string path = to_path(path_like);
  if (offsets.ndim() != 1 || counts.ndim() != 1 || offsets.shape(0) != counts.shape(0)) {
    throw py::value_error("offsets and counts must be vectors of one length");
  }
  const auto runs = static_cast<std::size_t>(offsets.shape(0));
  constexpr std::int64_t kChunkFloats = 64 * 1024;
  struct Chunk {
    std::size_t run;
    std::int64_t offset;
    std::int64_t count;
  };
  std::vector<Chunk> chunks;
  for (std::size_t i = 0; i < runs; ++i) {
    if (offsets.data()[i] < 0 || counts.data()[i] < 0) {
      throw py::value_error("offsets and counts must not be negative");
    }
  }
  std::vector<Stats> stats(runs);
  FileError file_error;
  MappedFile file;
  bool sound = true;
  {
    const py::gil_scoped_release release;
    sound = file.open(path.c_str(), &file_error);
    const auto file_bytes = static_cast<std::int64_t>(file.size());
    for (std::size_t i = 0; sound && i < runs; ++i) {
      const std::int64_t offset = offsets.data()[i];
      const std::int64_t there = std::max<std::int64_t>(0, file_bytes - offset) / 4;
      const std::int64_t count = std::min(counts.data()[i], there);
      for (std::int64_t done = 0; done < count; done += kChunkFloats) {
        chunks.push_back({i, offset + 4 * done, std::min(kChunkFloats, count - done)});
      }
    }
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    on_threads(threads, chunks.size(), [&] {
      std::vector<std::byte> buffer(4 * kChunkFloats);
      for (std::size_t i = next++; i < chunks.size(); i = next++) {
        const Chunk& chunk = chunks[i];
        std::uint64_t got = 0;
        FileError error;
        const bool read =
            file.read(static_cast<std::uint64_t>(chunk.offset),
                      static_cast<std::uint64_t>(4 * chunk.count), buffer.data(), &got, &error);
        Stats found;
        add_stats(buffer.data(), got / 4, &found);
        const std::lock_guard<std::mutex> lock(mutex);
        if (!read) {
          sound = false;
          file_error = error;
          continue;
        }
        Stats& total = stats[chunk.run];
        const bool first = total.count == total.nonfinite;
        if (found.count > found.nonfinite) {
          total.minimum = first ? found.minimum : std::min(total.minimum, found.minimum);
          total.maximum = first ? found.maximum : std::max(total.maximum, found.maximum);
        }
        total.count += found.count;
        total.nonfinite += found.nonfinite;
        total.negative += found.negative;
        total.zero += found.zero;
        total.sum += found.sum;
        total.sum_of_squares += found.sum_of_squares;
      }
    });
  }
  if (!sound) {
    raise(file_error, path);
  }
  const auto integers = [&](std::uint64_t Stats::* field) {
    py::array_t<std::int64_t> out(static_cast<py::ssize_t>(runs));
    for (std::size_t i = 0; i < runs; ++i) {
      out.mutable_data()[i] = static_cast<std::int64_t>(stats[i].*field);
    }
    return out;
  };
  const auto numbers = [&](double Stats::* field) {
    py::array_t<double> out(static_cast<py::ssize_t>(runs));
    for (std::size_t i = 0; i < runs; ++i) {
      out.mutable_data()[i] = stats[i].*field;
    }
    return out;
  };
  py::dict result;
  result["count"] = integers(&Stats::count);
  result["nonfinite"] = integers(&Stats::nonfinite);
  result["negative"] = integers(&Stats::negative);
  result["zero"] = integers(&Stats::zero);
  result["minimum"] = numbers(&Stats::minimum);
  result["maximum"] = numbers(&Stats::maximum);
  result["sum"] = numbers(&Stats::sum);
  result["sum_of_squares"] = numbers(&Stats::sum_of_squares);
  return result;
}

bool copy_file(const py::object& path_like, py::array_t<std::uint8_t, py::array::c_style> memory,
               int threads) {
  const std::string path = to_path(path_like);
  std::uint8_t* out = memory.mutable_data();
  const auto room = static_cast<std::uint64_t>(memory.size());
  FileError file_error;
  MappedFile file;
  bool sound = true;
  {
    const py::gil_scoped_release release;
    sound = file.open(path.c_str(), &file_error) && file.size() == room && file.hold(&file_error);
    if (sound) {
      std::atomic<std::uint64_t> next{0};
      constexpr std::uint64_t kPart = 1 << 20;
      const std::uint64_t parts = (room + kPart - 1) / kPart;
      on_threads(threads, parts, [&] {
        for (std::uint64_t i = next++; i < parts; i = next++) {
          const std::uint64_t begin = kPart * i;
          std::memcpy(out + begin, file.bytes() + begin, std::min(kPart, room - begin));
        }
      });
    }
  }
  if (!sound && file_error.code == FileCode::kOk) {
    throw py::value_error("memory must have the size of the file");
  }
  if (!sound) {
    raise(file_error, path);
  }
  return file.mapped();
}

// Whether the processor has AVX-512, which decides the layout of what other libraries compute with;
// nothing in here uses it.
bool has_avx512() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  return __builtin_cpu_supports("avx512f") != 0;
#else
  return false;
#endif
}

}  // namespace
}  // namespace yolotf

PYBIND11_MODULE(_core, module) {
  using namespace pybind11::literals;
  module.doc() = "The .weights format in native code, without TensorFlow.";
  yolotf::native_error() = py::reinterpret_steal<py::object>(PyErr_NewExceptionWithDoc(
      "yolotf._core.NativeError",
      "A check failed; `code` names it, `segment`, `axis`, `offset`, `expected` and `found` are "
      "its numbers.",
      PyExc_ValueError, nullptr));
  module.attr("NativeError") = yolotf::native_error();
  module.attr("CODES") = py::cast(yolotf::kCodeNames);
  module.attr("PLAN_COLUMNS") = yolotf::kPlanColumns;
  module.def("read_header", &yolotf::read_header, "path"_a, "floats"_a = -1,
             "(major, minor, revision, seen, size_bytes, version_size_bytes, transposed, "
             "file_bytes) of a file; `floats`, if known, decides the header's size.");
  module.def(
      "scatter", &yolotf::scatter_arrays, "path"_a, "header"_a, "expected_bytes"_a, "plan"_a,
      "arrays"_a, py::kw_only(), "cast"_a = false, "verify"_a = true, "threads"_a = 1,
      "Checks everything, then writes the file's floats into the arrays' memory. The file must "
      "begin with `header`, 16 or 20 bytes. Returns (mapped, threads, nanoseconds checking, "
      "nanoseconds writing).");
  module.def("scan", &yolotf::scan, "path"_a, "offsets"_a, "counts"_a, py::kw_only(),
             "threads"_a = 1,
             "Statistics of runs of floats: `offsets` in bytes from the start of the file, "
             "`counts` in floats; a dict of vectors.");
  module.def("copy_file", &yolotf::copy_file, "path"_a, "memory"_a.noconvert(), "threads"_a = 1,
             "Copies the file into a uint8 array of its size, as fast as memcpy does; True if "
             "it was mapped.");
  module.def("has_avx512", &yolotf::has_avx512, "Whether the processor has AVX-512.");
  module.def("scatter_isa", &yolotf::scatter_isa, "The instruction set in use: avx2 or portable.");
  module.def("force_portable", &yolotf::force_portable, "portable"_a,
             "For tests: True switches the faster instruction sets off.");
  bind_decode(module);
}
