/* The smallest guest in C: a CGI program (RFC 3875). The request is in the environment,
   the answer goes to stdout: headers, an empty line, the body. */
#include <stdio.h>

int main(void) {
	printf("Content-Type: text/plain; charset=utf-8\n\nHello, edge!\n");
	return 0;
}
