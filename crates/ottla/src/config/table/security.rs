//! Keys of TLS and SASL.

use super::super::key::{Alias, Choice, Importance, Key, Kind, Scope};

use Importance::{High, Low, Medium};
use Scope::Client;

const JAVA_CLASS: &str = "it names a Java class, and no Java runs here";
const C_LIBRARY: &str = "it concerns OpenSSL, and there is no C library in this client";
const JAVA_SECURITY: &str = "it selects a part of Java's security framework, and no Java runs here";
const POINTER: &str = "it is a pointer of librdkafka's C interface, which text cannot carry";
const VERIFIER: &str =
    "it is for the broker's side of OAUTHBEARER; a client does not verify tokens";

pub(super) static KEYS: &[Key] = &[
    Key::new(
        "security.protocol",
        Client,
        High,
        Kind::Choice(&[
            Choice::of("plaintext"),
            Choice::of("ssl").planned(),
            Choice::of("sasl_plaintext").planned(),
            Choice::of("sasl_ssl").planned(),
        ]),
        "How to talk to the brokers' listener: in the clear, over TLS, and with or without proving who \
         one is.",
    )
    .default("plaintext")
    .honoured(|_, _| ()),
    // TLS.
    Key::new(
        "ssl.ca.location",
        Client,
        Medium,
        Kind::Text,
        "A PEM file of the certificate authorities that may have signed the brokers' certificates.",
    ),
    Key::new(
        "ssl.ca.pem",
        Client,
        Medium,
        Kind::Text,
        "The same certificate authorities as PEM text rather than a file.",
    )
    .aliases(&[Alias::same("ssl.truststore.certificates")]),
    Key::new(
        "ssl.certificate.location",
        Client,
        Medium,
        Kind::Text,
        "A PEM file with this client's certificate and its chain, for brokers that ask for one.",
    ),
    Key::new(
        "ssl.certificate.pem",
        Client,
        Medium,
        Kind::Text,
        "This client's certificate and its chain as PEM text.",
    )
    .aliases(&[Alias::same("ssl.keystore.certificate.chain")]),
    Key::new(
        "ssl.key.location",
        Client,
        Medium,
        Kind::Text,
        "A PEM file with the private key of this client's certificate.",
    ),
    Key::new(
        "ssl.key.pem",
        Client,
        Medium,
        Kind::Text,
        "The private key of this client's certificate as PEM text.",
    )
    .aliases(&[Alias::same("ssl.keystore.key")])
    .secret(),
    Key::new(
        "ssl.key.password",
        Client,
        Medium,
        Kind::Text,
        "The passphrase of an encrypted private key.",
    )
    .secret(),
    Key::new(
        "ssl.keystore.location",
        Client,
        Medium,
        Kind::Text,
        "A PKCS#12 file with this client's certificate and private key.",
    ),
    Key::new(
        "ssl.keystore.password",
        Client,
        Medium,
        Kind::Text,
        "The password of `ssl.keystore.location`.",
    )
    .secret(),
    Key::new(
        "ssl.keystore.type",
        Client,
        Low,
        Kind::Choice(&[Choice::of("PEM"), Choice::of("PKCS12"), Choice::of("JKS")]),
        "The format of `ssl.keystore.location`.",
    ),
    Key::new(
        "ssl.truststore.location",
        Client,
        Medium,
        Kind::Text,
        "A file of trusted certificate authorities in the format of `ssl.truststore.type`.",
    ),
    Key::new(
        "ssl.truststore.password",
        Client,
        Medium,
        Kind::Text,
        "The password of `ssl.truststore.location`.",
    )
    .secret(),
    Key::new(
        "ssl.truststore.type",
        Client,
        Low,
        Kind::Choice(&[Choice::of("PEM"), Choice::of("PKCS12"), Choice::of("JKS")]),
        "The format of `ssl.truststore.location`.",
    ),
    Key::new(
        "ssl.ca.certificate.stores",
        Client,
        Low,
        Kind::List,
        "Windows certificate stores to take trusted authorities from.",
    )
    .default("Root"),
    Key::new(
        "ssl.crl.location",
        Client,
        Low,
        Kind::Text,
        "A PEM file of revoked certificates.",
    ),
    Key::new(
        "ssl.cipher.suites",
        Client,
        Low,
        Kind::List,
        "The cipher suites that may be negotiated; all safe ones when not set.",
    ),
    Key::new(
        "ssl.curves.list",
        Client,
        Low,
        Kind::List,
        "The key exchange groups that may be negotiated, best first.",
    ),
    Key::new(
        "ssl.sigalgs.list",
        Client,
        Low,
        Kind::List,
        "The signature algorithms that may be negotiated, best first.",
    ),
    Key::new(
        "ssl.enabled.protocols",
        Client,
        Low,
        Kind::Choices(&[Choice::of("TLSv1.2"), Choice::of("TLSv1.3")]),
        "The versions of TLS that may be negotiated.",
    )
    .default("TLSv1.2,TLSv1.3"),
    Key::new(
        "ssl.protocol",
        Client,
        Low,
        Kind::Choice(&[Choice::of("TLSv1.3"), Choice::of("TLSv1.2")]),
        "The highest version of TLS to negotiate, in Java.",
    )
    .default("TLSv1.3"),
    Key::new(
        "ssl.endpoint.identification.algorithm",
        Client,
        Medium,
        Kind::Choice(&[Choice::of("https"), Choice::of("none").also(&[""])]),
        "Whether the broker's name must be in its certificate (`https`) or need not be.",
    )
    .default("https"),
    Key::new(
        "enable.ssl.certificate.verification",
        Client,
        Low,
        Kind::Bool,
        "Whether the broker must prove who it is. Without it, anyone on the way can read and change \
         everything.",
    )
    .default("true"),
    Key::new(
        "https.ca.location",
        Client,
        Low,
        Kind::Text,
        "A PEM file of the authorities trusted for HTTPS requests, such as those to a token endpoint.",
    ),
    Key::new(
        "https.ca.pem",
        Client,
        Low,
        Kind::Text,
        "The authorities trusted for HTTPS requests as PEM text.",
    ),
    Key::new("ssl_key", Client, Low, Kind::Object, "A private key in memory.").refused(POINTER),
    Key::new("ssl_certificate", Client, Low, Kind::Object, "A certificate in memory.").refused(POINTER),
    Key::new("ssl_ca", Client, Low, Kind::Object, "Certificate authorities in memory.").refused(POINTER),
    Key::new("ssl.providers", Client, Low, Kind::Object, "OpenSSL providers to load.").refused(C_LIBRARY),
    Key::new("ssl.engine.location", Client, Low, Kind::Object, "An OpenSSL engine to load.")
        .refused(C_LIBRARY),
    Key::new("ssl.engine.id", Client, Low, Kind::Object, "The OpenSSL engine's name.").refused(C_LIBRARY),
    Key::new("ssl_engine_callback_data", Client, Low, Kind::Object, "Data for an OpenSSL engine.")
        .refused(POINTER),
    Key::new("ssl.certificate.verify_cb", Client, Low, Kind::Object, "A verifier of certificates.")
        .refused(POINTER),
    Key::new("ssl.engine.factory.class", Client, Low, Kind::Object, "A maker of TLS engines.")
        .refused(JAVA_CLASS),
    Key::new("ssl.provider", Client, Low, Kind::Object, "The Java security provider for TLS.")
        .refused(JAVA_SECURITY),
    Key::new("ssl.keymanager.algorithm", Client, Low, Kind::Object, "Java's key manager.")
        .refused(JAVA_SECURITY),
    Key::new("ssl.trustmanager.algorithm", Client, Low, Kind::Object, "Java's trust manager.")
        .refused(JAVA_SECURITY),
    Key::new("ssl.secure.random.implementation", Client, Low, Kind::Object, "Java's random source.")
        .refused(JAVA_SECURITY),
    Key::new("security.providers", Client, Low, Kind::Object, "Makers of Java security providers.")
        .refused(JAVA_SECURITY),
    // SASL.
    Key::new(
        "sasl.mechanism",
        Client,
        High,
        Kind::Choice(&[
            Choice::of("PLAIN"),
            Choice::of("SCRAM-SHA-256"),
            Choice::of("SCRAM-SHA-512"),
            Choice::of("OAUTHBEARER"),
            Choice::of("GSSAPI"),
            Choice::of("AWS_MSK_IAM"),
        ]),
        "How to prove who one is, where `security.protocol` says that one must.",
    )
    .aliases(&[Alias::same("sasl.mechanisms")]),
    Key::new("sasl.username", Client, High, Kind::Text, "The user name for PLAIN and SCRAM."),
    Key::new("sasl.password", Client, High, Kind::Text, "The password for PLAIN and SCRAM.").secret(),
    Key::new(
        "sasl.jaas.config",
        Client,
        Medium,
        Kind::Text,
        "Java's way to write the user name and password of PLAIN and SCRAM.",
    )
    .secret(),
    Key::new(
        "sasl.kerberos.service.name",
        Client,
        Low,
        Kind::Text,
        "The name under which the brokers are known to Kerberos.",
    )
    .default("kafka"),
    Key::new("sasl.kerberos.principal", Client, Low, Kind::Text, "This client's Kerberos principal.")
        .default("kafkaclient"),
    Key::new("sasl.kerberos.keytab", Client, Low, Kind::Text, "A keytab with the key of the principal."),
    Key::new(
        "sasl.kerberos.kinit.cmd",
        Client,
        Low,
        Kind::Object,
        "The command with which other clients fetch a Kerberos ticket.",
    )
    .refused("no command is run on the client's behalf; renew tickets outside of it, as with k5start"),
    Key::new(
        "sasl.kerberos.min.time.before.relogin",
        Client,
        Low,
        Kind::Millis { min: 0, max: 86_400_000 },
        "The least time between two renewals of a Kerberos ticket.",
    )
    .default("60000"),
    Key::new(
        "sasl.kerberos.ticket.renew.jitter",
        Client,
        Low,
        Kind::Number { min: 0.0, max: 1.0 },
        "Spread of the time at which a Kerberos ticket is renewed.",
    )
    .default("0.05"),
    Key::new(
        "sasl.kerberos.ticket.renew.window.factor",
        Client,
        Low,
        Kind::Number { min: 0.0, max: 1.0 },
        "The part of a Kerberos ticket's life after which it is renewed.",
    )
    .default("0.8"),
    Key::new(
        "sasl.oauthbearer.method",
        Client,
        Low,
        Kind::Choice(&[Choice::of("default"), Choice::of("oidc")]),
        "Where a token comes from: the program, or an OpenID Connect token endpoint.",
    )
    .default("default"),
    Key::new(
        "sasl.oauthbearer.token.endpoint.url",
        Client,
        Medium,
        Kind::Text,
        "The address of the token endpoint.",
    ),
    Key::new(
        "sasl.oauthbearer.client.credentials.client.id",
        Client,
        Medium,
        Kind::Text,
        "Who this client is to the token endpoint.",
    )
    .aliases(&[Alias::same("sasl.oauthbearer.client.id")]),
    Key::new(
        "sasl.oauthbearer.client.credentials.client.secret",
        Client,
        Medium,
        Kind::Text,
        "What proves it to the token endpoint.",
    )
    .aliases(&[Alias::same("sasl.oauthbearer.client.secret")])
    .secret(),
    Key::new("sasl.oauthbearer.scope", Client, Medium, Kind::Text, "The scope to ask a token for."),
    Key::new(
        "sasl.oauthbearer.extensions",
        Client,
        Low,
        Kind::List,
        "`name=value` extensions that are sent to the broker with the token.",
    ),
    Key::new(
        "sasl.oauthbearer.config",
        Client,
        Low,
        Kind::Text,
        "What librdkafka's unsecured tokens contain.",
    ),
    Key::new(
        "enable.sasl.oauthbearer.unsecure.jwt",
        Client,
        Low,
        Kind::Bool,
        "Make tokens that nobody signed, for tests only.",
    )
    .default("false"),
    Key::new(
        "sasl.oauthbearer.grant.type",
        Client,
        Low,
        Kind::Choice(&[
            Choice::of("client_credentials"),
            Choice::of("urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ]),
        "How a token is asked for: with a client's secret, or with a signed assertion.",
    )
    .default("client_credentials"),
    Key::new(
        "sasl.oauthbearer.assertion.algorithm",
        Client,
        Low,
        Kind::Choice(&[Choice::of("RS256"), Choice::of("ES256")]),
        "How the assertion is signed.",
    )
    .default("RS256"),
    Key::new(
        "sasl.oauthbearer.assertion.private.key.file",
        Client,
        Low,
        Kind::Text,
        "A PEM file with the key that signs the assertion.",
    ),
    Key::new(
        "sasl.oauthbearer.assertion.private.key.pem",
        Client,
        Low,
        Kind::Text,
        "The key that signs the assertion as PEM text.",
    )
    .secret(),
    Key::new(
        "sasl.oauthbearer.assertion.private.key.passphrase",
        Client,
        Low,
        Kind::Text,
        "The passphrase of the key that signs the assertion.",
    )
    .secret(),
    Key::new(
        "sasl.oauthbearer.assertion.file",
        Client,
        Low,
        Kind::Text,
        "A file with a ready-made assertion, read anew for each token.",
    ),
    Key::new(
        "sasl.oauthbearer.assertion.claim.aud",
        Client,
        Low,
        Kind::Text,
        "The audience claim of the assertion.",
    ),
    Key::new(
        "sasl.oauthbearer.assertion.claim.iss",
        Client,
        Low,
        Kind::Text,
        "The issuer claim of the assertion.",
    ),
    Key::new(
        "sasl.oauthbearer.assertion.claim.sub",
        Client,
        Low,
        Kind::Text,
        "The subject claim of the assertion.",
    ),
    Key::new(
        "sasl.oauthbearer.assertion.claim.exp.seconds",
        Client,
        Low,
        Kind::Int { min: 1, max: 2_147_483_647 },
        "How many seconds an assertion is valid.",
    )
    .default("300"),
    Key::new(
        "sasl.oauthbearer.assertion.claim.nbf.seconds",
        Client,
        Low,
        Kind::Int { min: 0, max: 2_147_483_647 },
        "How many seconds before its making an assertion is valid, for clocks that differ.",
    )
    .default("60"),
    Key::new(
        "sasl.oauthbearer.assertion.claim.jti.include",
        Client,
        Low,
        Kind::Bool,
        "Give each assertion an id of its own.",
    )
    .default("false"),
    Key::new(
        "sasl.oauthbearer.assertion.template.file",
        Client,
        Low,
        Kind::Text,
        "A JSON file with further headers and claims of the assertion.",
    )
    .aliases(&[Alias::same("sasl.oauthbearer.assertion.jwt.template.file")]),
    Key::new(
        "sasl.oauthbearer.metadata.authentication.type",
        Client,
        Low,
        Kind::Choice(&[Choice::of("none"), Choice::of("azure_imds"), Choice::of("aws_iam")]),
        "A cloud's metadata service that hands out tokens.",
    )
    .default("none"),
    Key::new(
        "sasl.oauthbearer.sub.claim.name",
        Client,
        Low,
        Kind::Text,
        "The claim of a token that says whose it is.",
    )
    .default("sub"),
    Key::new(
        "sasl.oauthbearer.scope.claim.name",
        Client,
        Low,
        Kind::Text,
        "The claim of a token that says what it allows.",
    )
    .default("scope"),
    Key::new(
        "sasl.oauthbearer.header.urlencode",
        Client,
        Low,
        Kind::Bool,
        "Encode the client's id and secret as in a URL before they go to the token endpoint (RFC 6749).",
    )
    .default("false"),
    Key::new("oauthbearer_token_refresh_cb", Client, Low, Kind::Object, "Makes a new token.")
        .refused(POINTER),
    Key::new("sasl.client.callback.handler.class", Client, Low, Kind::Object, "Answers SASL's questions.")
        .refused(JAVA_CLASS),
    Key::new("sasl.login.callback.handler.class", Client, Low, Kind::Object, "Answers a login's questions.")
        .refused(JAVA_CLASS),
    Key::new("sasl.login.class", Client, Low, Kind::Object, "Logs in.").refused(JAVA_CLASS),
    Key::new("sasl.oauthbearer.jwt.retriever.class", Client, Low, Kind::Object, "Fetches tokens.")
        .refused(JAVA_CLASS),
    Key::new("sasl.oauthbearer.jwt.validator.class", Client, Low, Kind::Object, "Checks tokens.")
        .refused(JAVA_CLASS),
    Key::new("sasl.oauthbearer.clock.skew.seconds", Client, Low, Kind::Object, "Tolerance of clocks.")
        .refused(VERIFIER),
    Key::new("sasl.oauthbearer.expected.audience", Client, Low, Kind::Object, "The audience to expect.")
        .refused(VERIFIER),
    Key::new("sasl.oauthbearer.expected.issuer", Client, Low, Kind::Object, "The issuer to expect.")
        .refused(VERIFIER),
    Key::new("sasl.oauthbearer.jwks.endpoint.url", Client, Low, Kind::Object, "Where keys are.")
        .refused(VERIFIER),
    Key::new("sasl.oauthbearer.jwks.endpoint.refresh.ms", Client, Low, Kind::Object, "Age of keys.")
        .refused(VERIFIER),
    Key::new("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Client, Low, Kind::Object, "First pause.")
        .refused(VERIFIER),
    Key::new(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        Client,
        Low,
        Kind::Object,
        "Longest pause.",
    )
    .refused(VERIFIER),
    Key::new(
        "sasl.login.connect.timeout.ms",
        Client,
        Low,
        Kind::Millis { min: 1, max: 2_147_483_647 },
        "How long a token endpoint may take to accept a connection.",
    ),
    Key::new(
        "sasl.login.read.timeout.ms",
        Client,
        Low,
        Kind::Millis { min: 1, max: 2_147_483_647 },
        "How long a token endpoint may take to answer.",
    ),
    Key::new(
        "sasl.login.retry.backoff.ms",
        Client,
        Low,
        Kind::Millis { min: 0, max: 2_147_483_647 },
        "The pause before a token endpoint is asked a second time.",
    )
    .default("100"),
    Key::new(
        "sasl.login.retry.backoff.max.ms",
        Client,
        Low,
        Kind::Millis { min: 0, max: 2_147_483_647 },
        "The longest pause between two requests to a token endpoint.",
    )
    .default("10000"),
    Key::new(
        "sasl.login.refresh.buffer.seconds",
        Client,
        Low,
        Kind::Int { min: 0, max: 3600 },
        "How long before its end a token is renewed at the latest.",
    )
    .default("300"),
    Key::new(
        "sasl.login.refresh.min.period.seconds",
        Client,
        Low,
        Kind::Int { min: 0, max: 900 },
        "The least time between two renewals of a token.",
    )
    .default("60"),
    Key::new(
        "sasl.login.refresh.window.factor",
        Client,
        Low,
        Kind::Number { min: 0.5, max: 1.0 },
        "The part of a token's life after which it is renewed.",
    )
    .default("0.8"),
    Key::new(
        "sasl.login.refresh.window.jitter",
        Client,
        Low,
        Kind::Number { min: 0.0, max: 0.25 },
        "Spread of the time at which a token is renewed.",
    )
    .default("0.05"),
];
