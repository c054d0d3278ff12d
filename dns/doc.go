// Package dns answers for the names of a fleet with the addresses of PoPs near to who asks. [Answerer] is the
// answer as a function of question, client and PoPs; [Server] listens.
package dns
