package front

import "strings"

// maxHost bounds a host name in bytes, as DNS does.
const maxHost = 253

// splitHost checks an authority without userinfo (RFC 3986 section 3.2) and returns its host:
// lower case, without port and trailing dot. Percent-encoding is not accepted: no client
// needs it in a DNS name, and two spellings of one host confuse what stands behind.
func splitHost(authority string) (host string, port, ok bool) {
	host = authority
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 || end > 64 || !only(host[1:end], isIPv6) {
			return "", false, false
		}
		rest := host[end+1:]
		return strings.ToLower(host[:end+1]), rest != "", validPort(rest)
	}
	if i := strings.IndexByte(host, ':'); i >= 0 {
		if !validPort(host[i:]) {
			return "", false, false
		}
		host, port = host[:i], true
	}
	if trimmed := strings.TrimSuffix(host, "."); trimmed != "" {
		host = trimmed
	}
	if len(host) > maxHost || !only(host, isName) || strings.HasPrefix(host, ".") || strings.Contains(host, "..") {
		return "", false, false
	}
	return strings.ToLower(host), port, true
}

// validPort accepts "", ":" and ":" with up to five digits.
func validPort(s string) bool {
	return s == "" || s[0] == ':' && len(s) <= 6 && only(s[1:], isDigit)
}

func only(s string, class func(byte) bool) bool {
	for i := 0; i < len(s); i++ {
		if !class(s[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isAlnum(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z' }

func isName(c byte) bool { return isAlnum(c) || c == '-' || c == '.' || c == '_' }

func isIPv6(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' || c == ':' || c == '.'
}

// isToken is tchar of RFC 9110 section 5.6.2.
func isToken(c byte) bool { return isAlnum(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 }
