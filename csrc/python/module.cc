// The Python module yolotf._core: the .weights format and, in decode_module.cc, detection. Needs no
// TensorFlow.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "python/without_gil.h"
#include "weights/damage.h"
#include "weights/header.h"
#include "weights/load.h"
#include "weights/mapped_file.h"
#include "weights/plan.h"
#include "weights/scatter.h"
#include "weights/statistics.h"

namespace py = pybind11;

void bind_decode(py::module_& module);  // decode_module.cc

namespace yolotf {
namespace {

using Int64Array = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

// By value of Code.
constexpr std::array<const char*, 15> kCodeNames = {"ok",
                                                    "header_too_short",
                                                    "file_too_short",
                                                    "wrong_size",
                                                    "bad_segment",
                                                    "wrong_rank",
                                                    "wrong_shape",
                                                    "wrong_dtype",
                                                    "uninitialized",
                                                    "shared",
                                                    "nonfinite",
                                                    "huge",
                                                    "negative_variance",
                                                    "zeros",
                                                    "repeated"};
static_assert(kCodeNames.size() == static_cast<std::size_t>(Code::kRepeated) + 1);

// By value of FileCode.
constexpr std::array<const char*, 4> kFileCodeNames = {"ok", "system", "not_regular", "changed"};
static_assert(kFileCodeNames.size() == static_cast<std::size_t>(FileCode::kChanged) + 1);

// By value of Role.
constexpr std::array<const char*, 8> kRoleNames = {
    "bias", "beta", "gamma", "moving_mean", "moving_variance", "kernel", "weights", "scale"};
static_assert(kRoleNames.size() == static_cast<std::size_t>(Role::kScale) + 1);

py::object& native_error() {
  static py::object* type = new py::object();  // never destroyed: the interpreter ends first
  return *type;
}

[[noreturn]] void raise(const std::string& text, const char* code, const Error& error) {
  py::object exception = native_error()(text);
  exception.attr("code") = code;
  exception.attr("segment") = error.segment;
  exception.attr("axis") = error.axis;
  exception.attr("role") = error.role;
  exception.attr("offset") = error.offset;
  exception.attr("end") = error.end;
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
  PyObject* encoded = nullptr;
  if (PyUnicode_FSConverter(path.ptr(), &encoded) == 0) {
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::bytes>(encoded);
}

// New threads, joined by the destructor.
class NewThreads : public Threads {
 public:
  explicit NewThreads(int threads) : threads_(threads) {}
  ~NewThreads() override {
    for (std::thread& thread : started_) {
      thread.join();
    }
  }
  int max_helpers() const override { return threads_ - 1; }
  void start(std::function<void()> work) override {
    try {
      started_.emplace_back(std::move(work));
    } catch (const std::exception&) {
      // No more threads or memory: the load's own thread does the work.
    }
  }

 private:
  int threads_;  // including the load's own
  std::vector<std::thread> started_;
};

py::tuple read_start(const py::object& path_like) {
  const std::string path = to_path(path_like);
  FileError file_error;
  MappedFile file;
  std::byte bytes[kWideHeaderBytes];
  std::uint64_t available = 0;
  if (!file.open(path.c_str(), &file_error) ||
      !file.read_at(0, sizeof bytes, bytes, &available, &file_error)) {
    raise(file_error, path);
  }
  return py::make_tuple(py::bytes(reinterpret_cast<const char*>(bytes), available), file.size());
}

py::tuple parse_start(const py::bytes& start, std::uint64_t file_bytes, std::int64_t floats) {
  const auto bytes = start.cast<std::string_view>();
  Header header;
  Error error;
  if (!parse_header(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), file_bytes,
                    floats, &header, &error)) {
    raise(error);
  }
  return py::make_tuple(header.major, header.minor, header.revision, header.seen,
                        header.size_bytes);
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
  for (int axis = 0; axis < std::min(target.rank, kMaxTargetRank); ++axis) {
    target.shape[axis] = static_cast<std::uint64_t>(array.shape(axis));
  }
  constexpr int kRequiredFlags = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((array.flags() & kRequiredFlags) != kRequiredFlags) {
    throw py::value_error("arrays must be contiguous and aligned");
  }
  target.data = array.mutable_data();  // raises if the array is read-only
  return target;
}

// NumPy arrays, which are overwritten in place. Nothing else may use them during the load.
class ArrayVariables : public Variables {
 public:
  explicit ArrayVariables(std::vector<Target> targets) : targets_(std::move(targets)) {}
  bool lock(std::vector<Target>* targets, Error*) override {
    *targets = targets_;
    return true;
  }
  bool begin(std::vector<Target>* targets) override {
    for (const Target& target : *targets) {
      std::uint64_t size = element_bytes(target.dtype);
      for (int axis = 0; axis < target.rank; ++axis) {
        size *= target.shape[axis];
      }
      prefer_huge_pages(target.data, size);
    }
    return true;
  }
  void commit() override {}

 private:
  std::vector<Target> targets_;
};

[[noreturn]] void raise(const LoadError& error, const std::string& path) {
  if (error.file.code != FileCode::kOk) {
    raise(error.file, path);
  }
  raise(error.error);
}

py::tuple scatter_arrays(const py::object& path_like, const py::bytes& header_bytes,
                         std::int64_t expected_bytes, const Int64Array& plan,
                         std::vector<py::array> arrays, bool cast, bool verify, int threads) {
  LoadRequest request;
  request.path = to_path(path_like);
  request.header = header_bytes;
  request.expected_bytes = expected_bytes;
  request.segments = to_segments(plan);
  request.cast = cast;
  request.verify = verify;
  if (request.segments.size() != arrays.size()) {
    throw py::value_error("plan and arrays must have the same length");
  }
  std::vector<Target> targets;
  targets.reserve(arrays.size());
  for (py::array& array : arrays) {
    targets.push_back(to_target(array));
  }
  LoadStats stats;
  LoadError error;
  bool loaded = false;
  {
    const WithoutGil released;
    ArrayVariables variables(std::move(targets));
    NewThreads new_threads(threads);
    loaded = load(request, &variables, &new_threads, &stats, &error);
  }
  if (!loaded) {
    raise(error, request.path);
  }
  return py::make_tuple(stats.mapped ? 1 : 0, stats.threads, stats.checking_ns, stats.writing_ns);
}

// Returns (code, segment, role, offset, end, expected, found) of each error.
py::list examine(const py::object& path_like, std::uint64_t header_bytes, const Int64Array& plan,
                 int threads) {
  const std::string path = to_path(path_like);
  const std::vector<Segment> segments = to_segments(plan);
  std::vector<Error> errors;
  LoadError error;
  bool examined = false;
  {
    const WithoutGil released;
    NewThreads new_threads(threads);
    examined = examine_content(path, header_bytes, segments, &new_threads, &errors, &error);
  }
  if (!examined) {
    raise(error, path);
  }
  py::list rows;
  for (const Error& damage : errors) {
    rows.append(py::make_tuple(kCodeNames[static_cast<std::size_t>(damage.code)], damage.segment,
                               kRoleNames[static_cast<std::size_t>(damage.role)], damage.offset,
                               damage.end, damage.expected, damage.found));
  }
  return rows;
}

template <typename Number, typename Field>
py::array_t<Number> column(const std::vector<Stats>& stats, Field Stats::* field) {
  py::array_t<Number> numbers(static_cast<py::ssize_t>(stats.size()));
  std::transform(stats.begin(), stats.end(), numbers.mutable_data(),
                 [field](const Stats& run) { return static_cast<Number>(run.*field); });
  return numbers;
}

py::dict scan(const py::object& path_like, const Int64Array& offsets, const Int64Array& counts,
              int threads) {
  const std::string path = to_path(path_like);
  if (offsets.ndim() != 1 || counts.ndim() != 1 || offsets.shape(0) != counts.shape(0)) {
    throw py::value_error("offsets and counts must be vectors of equal length");
  }
  std::vector<FloatRun> runs;
  runs.reserve(static_cast<std::size_t>(offsets.shape(0)));
  for (py::ssize_t i = 0; i < offsets.shape(0); ++i) {
    const FloatRun run{offsets.at(i), counts.at(i)};
    if (run.offset < 0 || run.count < 0) {
      throw py::value_error("offsets and counts must not be negative");
    }
    runs.push_back(run);
  }
  std::vector<Stats> stats;
  FileError error;
  bool scanned = false;
  {
    const WithoutGil released;
    MappedFile file;
    scanned = file.open(path.c_str(), &error) && scan_runs(file, runs, threads, &stats, &error);
  }
  if (!scanned) {
    raise(error, path);
  }
  py::dict columns;
  columns["count"] = column<std::int64_t>(stats, &Stats::count);
  columns["nonfinite"] = column<std::int64_t>(stats, &Stats::nonfinite);
  columns["negative"] = column<std::int64_t>(stats, &Stats::negative);
  columns["zero"] = column<std::int64_t>(stats, &Stats::zero);
  columns["minimum"] = column<double>(stats, &Stats::minimum);
  columns["maximum"] = column<double>(stats, &Stats::maximum);
  columns["sum"] = column<double>(stats, &Stats::sum);
  columns["sum_of_squares"] = column<double>(stats, &Stats::sum_of_squares);
  return columns;
}

bool copy_file(const py::object& path_like, py::array_t<std::uint8_t, py::array::c_style> memory,
               int threads) {
  const std::string path = to_path(path_like);
  std::uint8_t* out = memory.mutable_data();
  const auto size = static_cast<std::uint64_t>(memory.size());
  FileError file_error;
  MappedFile file;
  bool copied = false;
  {
    const WithoutGil released;
    copied =
        file.open(path.c_str(), &file_error) && file.size() == size && file.read_all(&file_error);
    if (copied) {
      constexpr std::uint64_t kPart = 1 << 20;
      run_tasks((size + kPart - 1) / kPart, threads, [&](std::size_t i) {
        const std::uint64_t begin = kPart * i;
        std::memcpy(out + begin, file.bytes() + begin, std::min(kPart, size - begin));
      });
      copied = file.check_intact(&file_error);
    }
  }
  if (!copied && file_error.code == FileCode::kOk) {
    throw py::value_error("memory must have the size of the file");
  }
  if (!copied) {
    raise(file_error, path);
  }
  return file.mapped();
}

// Whether the processor has the extensions that oneDNN requires for AVX-512. The memory layout that
// oneDNN prefers depends on it; the kernels here do not use AVX-512.
bool has_avx512() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0;
#else
  return false;
#endif
}

}  // namespace
}  // namespace yolotf

PYBIND11_MODULE(_core, module) {
  yolotf::WithoutGil::register_exit_handler();
  using namespace pybind11::literals;
  module.doc() = "The .weights format and the decoding of detections in native code.";
  yolotf::native_error() = py::reinterpret_steal<py::object>(PyErr_NewExceptionWithDoc(
      "yolotf._core.NativeError",
      "A failed check. `code` is one of CODES; which other attributes are set depends on it "
      "(csrc/weights/error.h).",
      PyExc_ValueError, nullptr));
  module.attr("NativeError") = yolotf::native_error();
  module.attr("CODES") = py::cast(yolotf::kCodeNames);
  module.attr("FILE_CODES") = py::cast(yolotf::kFileCodeNames);
  module.attr("ROLES") = py::cast(yolotf::kRoleNames);
  module.attr("PLAN_FIELDS") = py::cast(yolotf::kPlanFields);
  module.attr("PLAN_COLUMNS") = yolotf::kPlanColumns;
  module.attr("RESULT_FIELDS") = py::cast(yolotf::kResultFields);
  module.attr("HUGE") = yolotf::kHugeNumber;
  module.def("read_start", &yolotf::read_start, "path"_a,
             "Returns (first 20 bytes, size in bytes) of a file; all bytes if it is shorter.");
  module.def("parse_header", &yolotf::parse_start, "start"_a, "file_bytes"_a, "floats"_a = -1,
             "Returns (major, minor, revision, seen, size_bytes) of the header in `start`, the "
             "first bytes of a file of `file_bytes` bytes. `floats` is the network's number of "
             "floats, if known: the header's size then follows from the file's.");
  module.def("version_header_bytes", &yolotf::version_header_bytes, "major"_a, "minor"_a,
             "Returns the header size that a version specifies.");
  module.def("stores_transposed", &yolotf::stores_transposed, "major"_a, "minor"_a,
             "Whether a file of this version stores dense kernels (in, out).");
  module.def(
      "scatter", &yolotf::scatter_arrays, "path"_a, "header"_a, "expected_bytes"_a, "plan"_a,
      "arrays"_a, py::kw_only(), "cast"_a = false, "verify"_a = true, "threads"_a = 1,
      "Writes the floats of a file into arrays, in place. The file must begin with `header`, 16 or "
      "20 bytes. Returns (mapped, threads, nanoseconds checking, nanoseconds writing). The numbers "
      "are checked while they are written: if the file is damaged, the arrays are left partly "
      "written.");
  module.def("examine_content", &yolotf::examine, "path"_a, "header_bytes"_a, "plan"_a,
             py::kw_only(), "threads"_a = 1,
             "Returns the damage in the numbers that `plan` reads, by the rules of damage.h: "
             "(code, segment, role, offset, end, expected, found) of each error, in file order.");
  module.def("scan", &yolotf::scan, "path"_a, "offsets"_a, "counts"_a, py::kw_only(),
             "threads"_a = 1,
             "Returns statistics of runs of floats, as a dict of vectors. `offsets` are in bytes "
             "from the start of the file, `counts` in floats.");
  module.def("copy_file", &yolotf::copy_file, "path"_a, "memory"_a.noconvert(), "threads"_a = 1,
             "Copies a file into a uint8 array of its size, at the speed of memcpy. Returns "
             "whether the file was mapped.");
  module.def("has_avx512", &yolotf::has_avx512, "Whether the processor has AVX-512.");
  module.def("scatter_isa", &yolotf::scatter_isa,
             "Returns the instruction set in use: avx2 or portable.");
  module.def("force_portable", &yolotf::force_portable, "portable"_a,
             "For tests: True disables the faster instruction sets.");
  bind_decode(module);
}
