// Reads a file while no other process can change its bytes.
//
// A mapping alone is not safe: another process may write or truncate the file. So a mapping is used
// only under a read lease (Linux, fcntl F_SETLEASE): the kernel then blocks a process that opens
// the file for writing or truncates it until the load is over, after a few milliseconds. If no
// lease is available (the file is open for writing, belongs to another user, or the file system or
// kernel has no leases), the bytes are copied into private memory instead, and the file's status is
// compared before and after.
//
// The kernel breaks a lease after 45 seconds by default; a load takes that long if its process is
// stopped or its disk hangs. Pages may then be lost (see lost_pages.h) or overwritten. Therefore
// call check_intact() after the last use of bytes(), before relying on what was read.
#ifndef YOLOTF_CSRC_WEIGHTS_MAPPED_FILE_H_
#define YOLOTF_CSRC_WEIGHTS_MAPPED_FILE_H_

#include <time.h>

#include <cstddef>
#include <cstdint>

#include "weights/lost_pages.h"

namespace yolotf {

enum class FileCode {
  kOk = 0,
  kSystem,      // system_error: errno
  kNotRegular,  // a directory, a FIFO, a device
  kChanged,     // another process changed the file while it was read
};

struct FileError {
  FileCode code = FileCode::kOk;
  int system_error = 0;
};

class MappedFile {
 public:
  MappedFile() = default;
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // Opens a regular file for reading; never blocks on a FIFO.
  bool open(const char* path, FileError* error) noexcept;

  std::uint64_t size() const noexcept { return size_; }

  // Reads up to `size` bytes at `offset`, without map_or_copy(). *read_bytes is less than `size`
  // only at the end of the file.
  bool read_at(std::uint64_t offset, std::uint64_t size, std::byte* bytes,
               std::uint64_t* read_bytes, FileError* error) const noexcept;

  // Makes bytes() valid: maps the file under a lease, or copies it. Of a mapping, only the first
  // page is read: see populate().
  bool map_or_copy(FileError* error) noexcept;

  // Like map_or_copy(), but reads all pages of a mapping.
  bool read_all(FileError* error) noexcept;

  // Reads the pages of bytes `begin` to `end` of a mapping; does nothing for a copy. A read error
  // is then reported here, and not by a signal when the bytes are used.
  bool populate(std::uint64_t begin, std::uint64_t end, FileError* error) noexcept;

  // Whether the file begins with these bytes. If not, the error is kChanged: the caller has read
  // them from the same path.
  bool begins_with(const void* bytes, std::uint64_t size, FileError* error) const noexcept;

  // The whole file, page-aligned. Null before map_or_copy() or read_all(), and for an empty file.
  const std::byte* bytes() const noexcept { return bytes_; }

  // True if bytes() is the page cache itself, false if it is a private copy.
  bool mapped() const noexcept { return mapped_; }

  // Whether size and modification time are those that the file was opened with.
  bool unchanged() const noexcept;

  // Whether all bytes read from bytes() so far were those of the file that was opened.
  bool check_intact(FileError* error) const noexcept;

 private:
  // Many file systems update time stamps only every few milliseconds. Until that tick is over,
  // another change of the file would go unnoticed.
  void wait_for_tick() const noexcept;
  bool take_lease() noexcept;
  bool acquire(std::uint64_t populated_bytes, FileError* error) noexcept;
  bool map(std::uint64_t populated_bytes) noexcept;
  bool copy(FileError* error) noexcept;

  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  timespec modified_ = {};
  std::byte* bytes_ = nullptr;
  PageGuard guard_;  // of a mapping
  bool leased_ = false;
  bool mapped_ = false;
};

// Requests huge pages for untouched `memory`: with 4 KB pages, page faults take a quarter of the
// time of a load into new memory. The kernel takes this as advice, so the pages at both ends may
// hold other data as well.
void prefer_huge_pages(void* memory, std::uint64_t size) noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_MAPPED_FILE_H_
