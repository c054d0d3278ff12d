# varnish with its built-in rules, except that stale objects are kept for an hour, to be validated.
# The test sets default_grace=0, so that only stale-while-revalidate lets it serve stale.
vcl 4.1;
backend default { .host = "HOST"; .port = "PORT"; }
sub vcl_backend_response { set beresp.keep = 1h; }
