#include "weights/load.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include "weights/damage.h"
#include "weights/scatter.h"

namespace yolotf {
namespace {

constexpr std::uint64_t kPartBytes = 1 << 20;  // read and scanned by one task of FileReader
constexpr std::uint64_t kReadBytes = 8 << 20;  // read by a load before it publishes more tasks

using Clock = std::chrono::steady_clock;

std::int64_t nanoseconds_since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

// Runs tasks on helper threads and, in finish(), on the caller's. It waits for tasks, not for
// threads: if the threads are busy elsewhere, the caller runs all tasks.
class TaskGroup {
 public:
  TaskGroup(Threads* threads, std::function<void(std::size_t)> run_task)
      : threads_(threads), state_(std::make_shared<State>(std::move(run_task))) {}
  ~TaskGroup() { wait(); }
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Lets the tasks before `ready` run; `ready` must not decrease.
  void publish(std::size_t ready) { start_helpers(ready - published_, ready); }

  // Runs all tasks and returns the number of threads that may have taken part.
  int run(std::size_t tasks) {
    start_helpers(tasks - std::min<std::size_t>(tasks, 1), tasks);
    return finish();
  }

  // Waits until all published tasks are done and returns the number of threads that may have taken
  // part. Rethrows an exception of a task.
  int finish() {
    wait();
    if (state_->failure) {
      std::rethrow_exception(state_->failure);
    }
    return most_helpers_ + 1;
  }

 private:
  void wait() noexcept {
    state_->work();
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->changed.wait(lock, [this] { return state_->done == state_->ready; });
  }

  void start_helpers(std::size_t max_started, std::size_t ready) {
    int started = 0;
    {
      const std::lock_guard<std::mutex> lock(state_->mutex);
      state_->ready = ready;
      // Running helpers pick up new tasks.
      const int idle = std::max(0, threads_->max_helpers() - state_->helpers);
      started = static_cast<int>(std::min(static_cast<std::size_t>(idle), max_started));
      state_->helpers += started;
      most_helpers_ = std::max(most_helpers_, state_->helpers);
    }
    published_ = ready;
    try {
      for (int i = 0; i < started; ++i) {
        threads_->start([state = state_] { state->help(); });
      }
    } catch (const std::bad_alloc&) {  // the others do the work
    }
  }

  // Shared with the helpers: those that start after the group has ended find no more tasks.
  struct State {
    explicit State(std::function<void(std::size_t)> function) : run_task(std::move(function)) {}
    void work() {
      std::unique_lock<std::mutex> lock(mutex);
      work(&lock);
    }
    void help() {
      std::unique_lock<std::mutex> lock(mutex);
      work(&lock);
      --helpers;
    }
    void work(std::unique_lock<std::mutex>* lock) {
      while (next < ready) {
        const std::size_t task = next++;
        lock->unlock();
        std::exception_ptr exception;
        try {
          run_task(task);
        } catch (...) {  // bad_alloc: exceptions must not escape a thread
          exception = std::current_exception();
        }
        lock->lock();
        if (exception) {
          failure = exception;
        }
        ++done;
      }
      changed.notify_all();
    }
    const std::function<void(std::size_t)> run_task;
    std::mutex mutex;
    std::condition_variable changed;
    std::exception_ptr failure;
    std::size_t ready = 0;
    std::size_t next = 0;
    std::size_t done = 0;
    int helpers = 0;  // started and not yet finished
  };

  Threads* threads_;
  std::shared_ptr<State> state_;
  std::size_t published_ = 0;
  int most_helpers_ = 0;  // at any time
};

// The scan results of all threads.
class ScanResults {
 public:
  void scan(const std::byte* bytes, std::uint64_t begin, std::uint64_t end) {
    ScanResult result;
    scan_for_damage(bytes, begin, end, &result);
    const std::lock_guard<std::mutex> lock(mutex_);
    all_.push_back(std::move(result));
  }

  const std::vector<ScanResult>& all() const { return all_; }

 private:
  std::mutex mutex_;
  std::vector<ScanResult> all_;
};

// Reads the whole file and scans the parts that arrays lie in.
class FileReader {
 public:
  FileReader(MappedFile* file, const std::vector<Array>& arrays) : file_(file) {
    std::uint64_t divided = 0;  // end of the last part
    const auto divide = [&](std::uint64_t begin, std::uint64_t end, bool scan) {
      for (; begin < end; begin += kPartBytes) {
        parts_.push_back({begin, std::min(end, begin + kPartBytes), scan});
      }
    };
    for (std::size_t i = 0; i < arrays.size();) {
      const std::uint64_t begin = arrays[i].offset;
      std::uint64_t end = arrays[i].end();
      for (++i; i < arrays.size() && arrays[i].offset == end; ++i) {
        end = arrays[i].end();
      }
      divide(divided, begin, false);
      divide(begin, end, true);
      divided = end;
    }
    divide(divided, file->size(), false);
  }

  // Returns false if the file could not be read.
  bool run(Threads* threads, ScanResults* results, FileError* error) {
    std::mutex mutex;
    bool readable = true;
    TaskGroup group(threads, [&](std::size_t i) {
      const Part& part = parts_[i];
      FileError part_error;
      if (!file_->populate(part.begin, part.end, &part_error)) {
        const std::lock_guard<std::mutex> lock(mutex);
        readable = false;
        *error = part_error;
      } else if (part.scan) {
        results->scan(file_->bytes(), part.begin, part.end);
      }
    });
    group.run(parts_.size());
    return readable;
  }

 private:
  struct Part {
    std::uint64_t begin;
    std::uint64_t end;
    bool scan;
  };
  MappedFile* file_;
  std::vector<Part> parts_;
};

class Load {
 public:
  Load(const LoadRequest& request, Variables* variables, Threads* threads, LoadStats* stats,
       LoadError* error)
      : request_(request),
        segments_(request.segments),
        variables_(variables),
        threads_(threads),
        stats_(stats),
        error_(error) {}

  bool run() {
    const auto start = Clock::now();
    // The size comes first: a file of the wrong size is not read at all.
    if (!file_.open(request_.path.c_str(), &error_->file) ||
        !check_segments(segments_, request_.header.size(), request_.expected_bytes, file_.size(),
                        &error_->error) ||
        !file_.map_or_copy(&error_->file) ||
        !file_.begins_with(request_.header.data(), request_.header.size(), &error_->file) ||
        !lock_variables(&targets_) || !variables_->begin(&targets_)) {
      return false;
    }
    stats_->checking_ns = nanoseconds_since(start);
    // Checked again: another thread may have changed the shape of a variable meanwhile.
    std::vector<Target> current;
    if (!write() || !is_undamaged() || !lock_variables(&current)) {
      return false;
    }
    variables_->commit();
    stats_->mapped = file_.mapped();
    stats_->writing_ns = nanoseconds_since(start) - stats_->checking_ns;
    return true;
  }

 private:
  bool lock_variables(std::vector<Target>* targets) {
    if (!variables_->lock(targets, &error_->error)) {
      return false;
    }
    for (std::size_t i = 0; i < segments_.size(); ++i) {
      if (!check_target(segments_[i], static_cast<std::int64_t>(i), (*targets)[i], request_.cast,
                        &error_->error)) {
        return false;
      }
    }
    return true;
  }

  // Reads the file from the first byte that is needed, and publishes tasks as soon as their bytes
  // are read. Each task scans its bytes before it writes them, so that they are fetched from memory
  // once.
  bool write() {
    std::vector<Task> tasks = split_into_tasks(segments_);
    const auto end_of_task = [&](const Task& task) { return end_offset(segments_[task.segment]); };
    std::stable_sort(tasks.begin(), tasks.end(),
                     [&](const Task& a, const Task& b) { return end_of_task(a) < end_of_task(b); });
    TaskGroup group(threads_, [&](std::size_t i) {
      const Task& task = tasks[i];
      if (request_.verify) {
        const ByteRange source = source_range(segments_[task.segment], task);
        results_.scan(file_.bytes(), source.begin, source.end);
      }
      scatter(file_.bytes(), segments_[task.segment], targets_[task.segment], task);
    });
    std::uint64_t read_end = file_.size();
    for (const Segment& segment : segments_) {
      read_end = std::min(read_end, segment.offset);
      read_end = segment.norm_offset == 0 ? read_end : std::min(read_end, segment.norm_offset);
    }
    std::size_t ready = 0;
    bool readable = true;
    while (readable && ready < tasks.size()) {
      const std::uint64_t end = std::min(file_.size(), read_end + kReadBytes);
      readable = file_.populate(read_end, end, &error_->file);
      read_end = end;
      while (readable && ready < tasks.size() && end_of_task(tasks[ready]) <= read_end) {
        ++ready;
      }
      if (readable) {
        group.publish(ready);
      }
    }
    if (readable && request_.verify) {
      scan_folded_norms();
    }
    stats_->threads = std::min(group.finish(), static_cast<int>(tasks.size()));
    return readable;
  }

  // Whether the numbers that were written are the file's, and show no damage.
  bool is_undamaged() {
    std::vector<Error> errors;
    if (request_.verify) {
      errors = find_damage(file_.bytes(), file_.size(), sorted_arrays(segments_), results_.all());
    }
    if (!file_.check_intact(&error_->file)) {
      return false;  // what was scanned is not the file's content
    }
    if (!errors.empty()) {
      error_->error = errors.front();
    }
    return errors.empty();
  }

  // Scans the arrays of folded batch normalizations, which are in no task's source range.
  void scan_folded_norms() {
    std::uint64_t last_offset = 0;
    for (const Segment& segment : segments_) {
      if (segment.norm_offset != 0 && segment.norm_offset != last_offset) {
        last_offset = segment.norm_offset;
        results_.scan(file_.bytes(), last_offset,
                      last_offset + kNormArrays * kFloatBytes * segment.all_filters());
      }
    }
  }

  const LoadRequest& request_;
  const std::vector<Segment>& segments_;
  Variables* variables_;
  Threads* threads_;
  LoadStats* stats_;
  LoadError* error_;
  MappedFile file_;
  ScanResults results_;
  std::vector<Target> targets_;
};

bool examine(const std::string& path, std::uint64_t header_bytes,
             const std::vector<Segment>& segments, Threads* threads, std::vector<Error>* errors,
             LoadError* error) {
  MappedFile file;
  if (!file.open(path.c_str(), &error->file) ||
      !check_segments(segments, header_bytes, -1, file.size(), &error->error) ||
      !file.map_or_copy(&error->file)) {
    return false;
  }
  const std::vector<Array> arrays = sorted_arrays(segments);
  ScanResults results;
  if (!FileReader(&file, arrays).run(threads, &results, &error->file)) {
    return false;
  }
  *errors = find_damage(file.bytes(), file.size(), arrays, results.all());
  return file.check_intact(&error->file);
}

// Returns the result of `function`. Without memory, returns false and sets ENOMEM as the file's
// error, as read(2) would.
template <typename Function>
bool catching_bad_alloc(LoadError* error, const Function& function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    error->file = {FileCode::kSystem, ENOMEM};
    return false;
  }
}

}  // namespace

bool load(const LoadRequest& request, Variables* variables, Threads* threads, LoadStats* stats,
          LoadError* error) {
  return catching_bad_alloc(error,
                            [&] { return Load(request, variables, threads, stats, error).run(); });
}

bool examine_content(const std::string& path, std::uint64_t header_bytes,
                     const std::vector<Segment>& segments, Threads* threads,
                     std::vector<Error>* errors, LoadError* error) {
  return catching_bad_alloc(
      error, [&] { return examine(path, header_bytes, segments, threads, errors, error); });
}

}  // namespace yolotf
