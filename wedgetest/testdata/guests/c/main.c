// A plain WASI program: it answers through CGI (RFC 3875), or, with arguments, prints them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *var(const char *name) {
	const char *v = getenv(name);
	return v ? v : "-";
}

int main(int argc, char **argv) {
	const char *path = getenv("PATH_INFO");
	if (!path) path = "/";
	if (argc > 1 && strcmp(argv[1], "print") == 0) {
		for (int i = 2; i < argc; i++) printf("%s\n", argv[i]);
		fprintf(stderr, "on stderr\n");
		return atoi(argv[argc - 1]);
	}
	if (strcmp(path, "/vars") == 0) {
		printf("Content-Type: text/plain\r\nX-From: c\r\n\r\n%s %s %s %s %s %s %s\n", var("REQUEST_METHOD"), var("QUERY_STRING"),
			var("CONTENT_LENGTH"), var("CONTENT_TYPE"), var("HTTP_X_OWN"), var("GATEWAY_INTERFACE"), var("SERVER_PROTOCOL"));
	} else if (strcmp(path, "/echo") == 0) {
		char buf[4096];
		size_t n;
		printf("Content-Type: application/octet-stream\n\n");
		while ((n = fread(buf, 1, sizeof buf, stdin)) > 0) fwrite(buf, 1, n, stdout);
	} else if (strcmp(path, "/status") == 0) {
		printf("Status: 418 Teapot\nContent-Type: text/plain\n\nshort and stout\n");
	} else if (strcmp(path, "/redirect") == 0) {
		printf("Location: /status\n\n");
	} else if (strcmp(path, "/garbage") == 0) {
		printf("this is no header section\n");
	} else if (strcmp(path, "/exit") == 0) {
		return 3;
	} else if (strcmp(path, "/half") == 0) {
		printf("Content-Type: text/plain\n\nhalf");
		fflush(stdout);
		abort();
	} else if (strcmp(path, "/bomb") == 0) {
		for (int i = 0; i < 100000; i++) printf("X-%d: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\n", i);
		printf("\n");
	} else {
		printf("Status: 404\nContent-Type: text/plain\n\nno route\n");
	}
	return 0;
}
