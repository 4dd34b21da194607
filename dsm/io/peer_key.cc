#include "dsm/io/peer_key.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <algorithm>

#include "dsm/base/check.h"

namespace ppdsm {

namespace {

struct FreeBio {
    void operator()(BIO* bio) const { BIO_free(bio); }
};
using OwnedBio = std::unique_ptr<BIO, FreeBio>;

constexpr std::size_t kMaxPemBytes = 4096;

Result<std::shared_ptr<X509>> self_signed(EVP_PKEY* key) {
    std::shared_ptr<X509> certificate(X509_new(), X509_free);
    X509_NAME* name = X509_get_subject_name(certificate.get());
    const bool made =
        X509_set_version(certificate.get(), 2) == 1 &&
        ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1) == 1 &&
        ASN1_TIME_set_string(X509_getm_notBefore(certificate.get()), "19700101000000Z") == 1 &&
        ASN1_TIME_set_string(X509_getm_notAfter(certificate.get()), "99991231235959Z") == 1 &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>("ppdsm"), -1, -1,
                                   0) == 1 &&
        X509_set_issuer_name(certificate.get(), name) == 1 &&
        X509_set_pubkey(certificate.get(), key) == 1 &&
        X509_sign(certificate.get(), key, nullptr) > 0;
    if (!made) return fail(Code::kUnsupported, "make a certificate: " + last_tls_error());
    return certificate;
}

Result<EVP_PKEY*> read_key(const std::filesystem::path& path) {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) return fail_errno("read " + path.string());
    if ((info.st_mode & 077) != 0) {
        return fail(Code::kInvalid, path.string() +
                                        " can be read by others than its owner; if "
                                        "nobody has, `chmod 600` it, else remove it "
                                        "and be invited anew");
    }
    PPDSM_ASSIGN(const Bytes pem, read_file(path, kMaxPemBytes));
    const OwnedBio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    EVP_PKEY* key = PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr);
    if (key == nullptr || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519) {
        EVP_PKEY_free(key);
        ERR_clear_error();
        return fail(Code::kCorrupt, path.string() +
                                        " holds no Ed25519 key; restore it from a "
                                        "copy, or remove it and be invited anew");
    }
    return key;
}

Result<EVP_PKEY*> make_key(const std::filesystem::path& path) {
    EVP_PKEY* key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
    if (key == nullptr) return fail(Code::kUnsupported, "make a key: " + last_tls_error());
    const OwnedBio bio(BIO_new(BIO_s_mem()));
    PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &text);
    const Status kept = replace_file(path, as_bytes({text, static_cast<std::size_t>(size)}), 0600);
    if (kept) return key;
    EVP_PKEY_free(key);
    return fail(kept.error());
}

}  // namespace

PeerId PublicKey::id() const {
    const std::array<std::uint8_t, 32> hash = sha256(bytes);
    PeerId id;
    std::copy_n(hash.begin(), id.bytes.size(), id.bytes.begin());
    return id;
}

bool PublicKey::verifies(ByteView message, ByteView signature) const {
    const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key(
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes.data(), bytes.size()),
        EVP_PKEY_free);
    const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                     EVP_MD_CTX_free);
    const bool is_signed =
        key != nullptr &&
        EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
        EVP_DigestVerify(context.get(), signature.data(), signature.size(), message.data(),
                         message.size()) == 1;
    ERR_clear_error();
    return is_signed;
}

Bytes PeerKey::sign(ByteView message) const {
    Bytes signature(64);
    std::size_t size = signature.size();
    const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                     EVP_MD_CTX_free);
    PPDSM_CHECK(EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get()) == 1);
    PPDSM_CHECK(EVP_DigestSign(context.get(), signature.data(), &size, message.data(),
                               message.size()) == 1);
    return signature;
}

Result<PeerKey> PeerKey::load_or_create(const std::filesystem::path& path) {
    std::error_code error;
    PPDSM_ASSIGN(EVP_PKEY * key,
                 std::filesystem::exists(path, error) ? read_key(path) : make_key(path));
    PeerKey identity;
    PPDSM_TRY(identity.adopt(key));
    return identity;
}

Status PeerKey::adopt(EVP_PKEY* key) {
    key_ = std::shared_ptr<EVP_PKEY>(key, EVP_PKEY_free);
    std::size_t size = public_key_.bytes.size();
    if (EVP_PKEY_get_raw_public_key(key, public_key_.bytes.data(), &size) != 1) {
        return fail(Code::kCorrupt, "read the public key: " + last_tls_error());
    }
    PPDSM_ASSIGN(certificate_, self_signed(key));
    return {};
}

void fill_random(std::span<std::uint8_t> bytes) {
    PPDSM_CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
}

std::array<std::uint8_t, 32> authenticate(ByteView key, ByteView message) {
    std::array<std::uint8_t, 32> code{};
    unsigned size = 0;
    PPDSM_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), message.data(),
                     message.size(), code.data(), &size) != nullptr);
    return code;
}

std::array<std::uint8_t, 32> sha256(ByteView message) {
    std::array<std::uint8_t, 32> hash{};
    SHA256(message.data(), message.size(), hash.data());
    return hash;
}

bool equal_in_constant_time(ByteView a, ByteView b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string last_tls_error() {
    const unsigned long code = ERR_peek_last_error();
    const char* reason = ERR_reason_error_string(code);
    ERR_clear_error();
    return reason == nullptr ? "unknown TLS error" : reason;
}

}  // namespace ppdsm
