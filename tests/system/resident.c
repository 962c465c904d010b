// SPDX-License-Identifier: Apache-2.0
/* Prints how many pages of each file are in the page cache, and how many it has: without touching
 * one. usage: resident FILE… */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int show(const char *path)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages, here = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *vec = NULL;
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
		return -1;
	pages = ((size_t)st.st_size + page - 1) / page;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	vec = calloc(pages, 1);
	if (p == MAP_FAILED || !vec || mincore(p, (size_t)st.st_size, vec) < 0)
		return -1;
	for (size_t i = 0; i < pages; i++)
		here += vec[i] & 1;
	printf("%zu %zu %s\n", here, pages, path);
	munmap(p, (size_t)st.st_size);
	free(vec);
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (show(argv[i]) < 0) {
			perror(argv[i]);
			return 1;
		}
	}
	return 0;
}
