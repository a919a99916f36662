// Loads a file into variables, completely or not at all.
//
// First it checks the file's size and header, every segment, and every variable's dtype and shape.
// Then it reads the file, checks its content if requested, and writes, all at once, so that each
// byte is fetched from memory once. This may fail until the last byte: therefore it writes into
// memory that becomes the variables' only by commit(), after everything is known to be good. The
// caller provides the variables, their memory and the threads; this file uses only std and POSIX.
#ifndef YOLOTF_CSRC_WEIGHTS_LOAD_H_
#define YOLOTF_CSRC_WEIGHTS_LOAD_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "weights/error.h"
#include "weights/mapped_file.h"
#include "weights/plan.h"

namespace yolotf {

struct LoadRequest {
  std::string path;
  std::string header;                // the bytes that the file must begin with
  std::int64_t expected_bytes = -1;  // the file's size; negative: any size the plan fits in
  std::vector<Segment> segments;
  bool cast = false;   // float16 and bfloat16 variables are allowed
  bool verify = true;  // check the content for damage
};

// At most one of the two is not kOk; both are kOk if `Variables` failed.
struct LoadError {
  Error error;
  FileError file;
};

struct LoadStats {
  bool mapped = false;  // false: a private copy was read
  int threads = 1;
  std::int64_t checking_ns = 0;
  std::int64_t writing_ns = 0;
};

// The fields of a load's result, in this order in a row of numbers.
constexpr std::array<const char*, 14> kResultFields = {
    "code", "file_code", "system_error", "segment", "axis",    "role",        "offset",
    "end",  "expected",  "found",        "mapped",  "threads", "checking_ns", "writing_ns"};

// The variables of a load, one per segment. All methods are called on the load's thread: lock,
// begin, lock again and commit; none after one that fails.
class Variables {
 public:
  virtual ~Variables() = default;

  // Describes every variable, and locks it until begin() or commit().
  virtual bool lock(std::vector<Target>* targets, Error* error) = 0;

  // Called after the first checks: fills in the data of every target, the memory to write into. It
  // may be the variables' own if their values are not needed; they then stay locked.
  virtual bool begin(std::vector<Target>* targets) = 0;

  // Called when everything is written and has been checked: makes what was written the variables'
  // values.
  virtual void commit() = 0;
};

// A source of threads. Started work may run late or never, so the load does not wait for it.
class Threads {
 public:
  virtual ~Threads() = default;

  // How many can be started besides the load's thread.
  virtual int helpers() const = 0;
  virtual void start(std::function<void()> work) = 0;
};

bool load(const LoadRequest& request, Variables* variables, Threads* threads, LoadStats* stats,
          LoadError* error);

// All errors in the content of a file that phase 1 would find, in file order. Returns false if the
// file cannot be read or is too short for the segments.
bool examine_content(const std::string& path, std::uint64_t header_bytes,
                     const std::vector<Segment>& segments, Threads* threads,
                     std::vector<Error>* errors, LoadError* error);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_LOAD_H_
