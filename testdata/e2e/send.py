"""Sends messages with Python's smtplib, as a script of a shop would.

    send.py HOST PORT CONNECTIONS < jobs > answers

jobs is JSON, one object a line: {"id", "from", "to", "file"}; the file is sent as it is, with
its dots doubled by smtplib. answers is one object a line, in any order: {"id", "code", "text"},
the server's answer to the message, or its first "no" before that. code 0: the connection broke, on
a first try and on a second, or there was no answer within 20 s; text says how.
"""
import json
import smtplib
import sys
import threading


def connect(host, port):
    return smtplib.SMTP(host, port, local_hostname="shop.example.net", timeout=20)


def send(smtp, job):
    with open(job["file"], "rb") as f:
        text = f.read()
    smtp.ehlo_or_helo_if_needed()
    options = []
    if smtp.has_extn("8bitmime") and not text.isascii():
        options.append("BODY=8BITMIME")
    if smtp.has_extn("size"):
        options.append("SIZE=%d" % len(text))
    try:
        for code, reply in (smtp.mail(job["from"], options), smtp.rcpt(job["to"])):
            if code // 100 != 2:
                smtp.rset()
                return code, reply
        return smtp.data(text)
    except smtplib.SMTPDataError as e:
        smtp.rset()
        return e.smtp_code, e.smtp_error


def worker(host, port, jobs, out, lock):
    smtp = None
    for job in jobs:
        for last in (False, True):
            try:
                smtp = smtp or connect(host, port)
                code, reply = send(smtp, job)
                break
            except (smtplib.SMTPServerDisconnected, OSError) as e:
                smtp = None
                code, reply = 0, repr(e).encode()
                if "timed out" in str(e):
                    break
        with lock:
            print(json.dumps({"id": job["id"], "code": code, "text": reply.decode("utf-8", "replace")}), file=out)
    if smtp:
        smtp.quit()


def main():
    host, port, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    jobs = [json.loads(line) for line in sys.stdin]
    lock = threading.Lock()
    threads = [threading.Thread(target=worker, args=(host, port, jobs[i::connections], sys.stdout, lock))
               for i in range(connections)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


main()
